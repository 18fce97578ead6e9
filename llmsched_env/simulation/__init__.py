"""Whole runs: the simulator, streamed runs, results, metrics."""
