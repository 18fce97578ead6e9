"""Decisions that are tried in simulated futures."""
