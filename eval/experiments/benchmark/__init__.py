"""Learned against tuned schedulers on held-out arrivals, with bars that were announced beforehand."""
