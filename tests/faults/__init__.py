"""Faults around the work: files, streams, stores, policies and numbers that are not what they should be."""
