"""The highest rate within an SLO, the servers that a load needs, and the curves between."""
