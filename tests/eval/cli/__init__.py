"""Tests of what commands share: options, progress."""
