"""The calibration: its campaign, its rows, its fit and its profiles."""
