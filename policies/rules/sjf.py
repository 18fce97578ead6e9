"""Shortest job first, by predicted output length."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import batch_or_target, set_tbt, tbt


@policy(
    "sjf",
    params={"batch": batch_or_target(), "tbt": tbt()},
    queueing=lambda params: {"discipline": "sjf"},
    controller=set_tbt,
)
def sjf(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The requests with the shortest predicted output of all bins (SJF); size = batch, or with 0 the target."""
    size = int(params[0])
    return record.num_bins, size if size > 0 else record.target[record.num_bins]
