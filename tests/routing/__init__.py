"""Routing as a decision: the kernel, the policies, the environment, the command."""
