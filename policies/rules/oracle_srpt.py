"""Shortest remaining output first, with true lengths and preemption (recomputed): a comparison for `sjf`."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import setting
from llmsched.policies.registry import Decision, Floats, Record, policy


@policy(
    "oracle-srpt",
    engines=("continuous",),
    params={"batch": setting("max_batch")},
    queueing=lambda params: {"discipline": "oracle-srpt"},
    clairvoyant=True,
)
def oracle_srpt(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The requests with the least TRUE output left; a longer one is preempted to make room (clairvoyant SRPT)."""
    return record.num_bins, int(min(params[0], float(record.max_batch)))
