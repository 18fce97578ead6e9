"""Scenarios, and runs of policies in them: making, storing, tuning, summarising."""
