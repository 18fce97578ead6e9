"""Tests of llmsched.eval.api: the Python interface."""
