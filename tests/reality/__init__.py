"""Calibration, fidelity and engine logs."""
