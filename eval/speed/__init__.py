"""The rows of the benchmark of speed."""
