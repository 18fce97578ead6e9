"""Tests of runs that are kept."""
