"""The schedulers, the registry, the networks."""
