"""Slow simulators written from the contracts alone, and the tests of them."""
