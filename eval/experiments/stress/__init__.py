"""Requests, servers and bins, each from few to many."""
