"""Sessions: recorded ones, drawn ones, think times."""
