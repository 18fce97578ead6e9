"""A latency profile from the steps of a running server."""
