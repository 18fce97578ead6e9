"""From the log of a benchmark, a gateway or another simulator to an answer: read, fit, validate, compare."""
