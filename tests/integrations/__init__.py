"""The environment in other people's training code; each stack in its own environment (make test-integrations)."""
