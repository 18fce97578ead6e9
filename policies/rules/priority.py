"""Age and shortness weighed against each other (a public batching engine's dynamic)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import number
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import BATCHES, wait
from llmsched_env.config import MAX_BATCH_LIMIT


@policy(
    "priority",
    engines=("batch",),
    params={
        "sequences": number(16, 1, MAX_BATCH_LIMIT, whole=True, auto=BATCHES),
        "tokens": number(16384, 1, 1e12),
        "wait": wait(2000),
    },
    queueing=lambda params: {
        "discipline": "priority",
        "max_tokens": params["tokens"],
        "max_wait_s": params["wait"],
    },
)
def priority(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """By age / wait + shortness, packed until sequences or tokens are reached (a batching engine's dynamic).

    Who waited longer than wait is taken whatever the tokens.  The original counts steps of a token each and requests
    of 10 tokens at most; its 512 tokens are scaled to requests of 32 times that.  It stops adding at 0.8 of its 16
    sequences, which is sequences=13 here.
    """
    return record.num_bins, int(params[0])
