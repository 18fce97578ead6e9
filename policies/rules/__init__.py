"""The schedulers written as rules, one a file."""
