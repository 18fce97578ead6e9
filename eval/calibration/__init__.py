"""Measurement of a real model on a real device, and the latency profile made from it (docs/howto/calibration.md)."""
