"""Learned against tuned schedulers on held-out arrivals, with verdicts announced beforehand."""
