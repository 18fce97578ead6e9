"""Agents of the environments as policies."""
