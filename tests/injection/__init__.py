"""Faults injected on purpose, minutes long: ``make test-faults`` before a release, not in the ordinary suite."""
