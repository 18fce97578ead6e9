"""Age weighed against shortness (the dynamic mode of a public batching engine)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import number, setting
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import BATCHES, wait


@policy(
    "priority",
    engines=("batch",),
    params={
        "sequences": setting("max_batch", 16, auto=BATCHES),
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
    """Requests by age / wait + shortness, up to sequences or tokens (a batching engine's dynamic mode).

    A request that has waited longer than wait is taken whatever its tokens.  The original's requests have at most 10
    tokens; its limit of 512 tokens is multiplied by 32 here, for longer requests.  It stops at 0.8 of its 16
    sequences, which is sequences=13 here.
    """
    return record.num_bins, int(params[0])
