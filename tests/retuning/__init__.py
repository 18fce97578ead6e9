"""Tests of train/retune.py."""
