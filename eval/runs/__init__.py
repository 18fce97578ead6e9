"""Scenarios and the runs of policies in them: made, kept, tuned, summed up."""
