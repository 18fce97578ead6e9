"""Engine `continuous`: servers work iteration by iteration (docs/reference/continuous.md)."""
