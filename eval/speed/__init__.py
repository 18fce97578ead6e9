"""The benchmark of speed: its rows and its table."""
