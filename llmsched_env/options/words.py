"""Limits and words that declarations, configurations and policies share."""

from __future__ import annotations

MAX_BATCH_LIMIT = 1024
"""Largest batch cap that can be asked for."""

ENGINES = ("batch", "continuous")
RELEASES = ("batch", "own")
DISCIPLINES = ("fifo", "sjf", "edf", "slack", "priority", "oracle-sjf", "oracle-srpt")
CONTROLLERS = ("paper", "peer")
ADMISSIONS = ("predicted", "prompt", "chunk")
PREFILLS = ("chunked", "first", "whole")
SCHEDULINGS = ("sync", "async")
PREFIX_CACHES = ("off", "on")
VICTIMS = ("newest", "last-class", "least-computed")
RETURNS = ("first", "ordered")
ACTIONS = ("multidiscrete", "ladder")
OVERDUE = ("wait", "refuse")
CLASS_PRIORITIES = ("none", "strict")
REFUSALS = ("off", "on")
REWARD_TERMS = ("miss", "holding", "tardiness")

ORDERS = tuple(word for word in DISCIPLINES if not word.startswith("oracle-"))
"""Disciplines that use nothing but what a scheduler can know; the others belong to policies named after them."""
