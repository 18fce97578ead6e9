"""Tests of eval/analysis: logs of others, fits, answers."""
