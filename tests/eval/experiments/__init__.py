"""Tests of the experiments, command by command."""
