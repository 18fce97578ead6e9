"""Schedulers that are rules, one a file; grids.py holds the parameters that several of them share."""
