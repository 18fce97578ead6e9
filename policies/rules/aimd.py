"""Additive increase, multiplicative decrease of the batch size (Clipper, NSDI 2017)."""

from __future__ import annotations

import math

import numpy as np

from llmsched.policies.parameters import number
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched_env.core.constants import MAX_SERVERS


@policy(
    "aimd",
    params={
        "share": number(1, 0.001, 1000, auto=(0.25, 0.5, 0.75, 1, 1.5)),
        "objective": number(None, 0.001, 1e9, unit="ms"),
    },
    memory=2 * MAX_SERVERS,
)
def aimd(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Size + 1 after a batch that met its objective, share of the E2E target, else x 0.9 (Clipper, NSDI 2017).

    Per server, ``memory`` holds the number of its batches seen so far and its size.  ``objective`` (ms), if given,
    takes the place of the share.  Without objective and without an E2E target of class 0 the size only grows.
    """
    seen, mine = 2 * record.server, 2 * record.server + 1
    size = max(memory[mine], 1.0)
    if record.server_batches > memory[seen]:
        memory[seen] = record.server_batches
        objective = params[1] if math.isfinite(params[1]) else params[0] * record.slo_e2e
        met = record.last_service <= objective
        size = size + 1.0 if met else size * 0.9
    memory[mine] = min(max(size, 1.0), float(record.max_batch))
    return record.num_bins, int(memory[mine])
