"""Routing by what the prefix caches of the servers hold of the prompt."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import number
from llmsched.policies.registry import Floats, Record
from llmsched.policies.routing.registry import routing


@routing("prefix-affinity")
def prefix_affinity(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> int:
    """The server that holds most of the prompt; among equals the one with the fewest requests."""
    best, most, least = -1, 0, 0
    for s in range(record.num_servers):
        load = record.waiting[s] + record.running[s] + record.sent[s]
        better = best < 0 or record.cached[s] > most or (record.cached[s] == most and load < least)
        if record.fits[s] == 1 and better:
            best, most, least = s, record.cached[s], load
    return best


@routing("prefix-load", params={"prefix": number(3.0, 0.0), "queue": number(2.0, 0.0), "kv": number(2.0, 0.0)})
def prefix_load(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> int:
    """Weighted: share of the prompt cached, short queue, free KV; as the gateway inference extension scores."""
    shortest, longest = record.waiting[0], record.waiting[0]
    for s in range(record.num_servers):
        shortest, longest = min(shortest, record.waiting[s]), max(longest, record.waiting[s])
    best, most = -1, 0.0
    for s in range(record.num_servers):
        queue = (longest - record.waiting[s]) / (longest - shortest) if longest > shortest else 1.0
        free = 1.0 - min(record.kv_load[s], 1.0)
        score = params[0] * record.cached[s] / max(record.prompt, 1) + params[1] * queue + params[2] * free
        if record.fits[s] == 1 and (best < 0 or score > most):
            best, most = s, score
    return best
