"""The best that can be had: exact optima of small systems, plans found in hindsight."""
