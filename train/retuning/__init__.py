"""Weights of the policy `network` for one trace and one system: search on the first part, judge on later ones."""
