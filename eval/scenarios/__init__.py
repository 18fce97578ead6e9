"""Scenarios: made from options, varied, and described in words and in JSON."""
