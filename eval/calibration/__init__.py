"""Measuring a real model on a real device, and making a latency profile of it (docs/howto/calibration.md)."""
