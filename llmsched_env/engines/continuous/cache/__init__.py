"""The prefix cache of a server: blocks with a name, found again and shared (docs/reference/continuous.md, 11)."""
