"""Profiles from logs of steps."""
