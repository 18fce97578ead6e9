"""Arrivals, lengths, traces, predictors, bins."""
