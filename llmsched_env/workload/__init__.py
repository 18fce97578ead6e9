"""Workloads: which requests come when, drawn from a seed or read from a trace."""
