"""Engine `continuous`: servers work iteration by iteration (docs/continuous.md)."""
