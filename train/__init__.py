"""Learners: what connects the environment to other people's training code, and our own training."""
