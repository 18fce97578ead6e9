"""Shortest job first with the true output lengths: the result of perfect predictions, not a scheduler to deploy."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import batch_or_target, set_tbt, tbt


@policy(
    "oracle-sjf",
    params={"batch": batch_or_target(), "tbt": tbt()},
    queueing=lambda params: {"discipline": "oracle-sjf"},
    controller=set_tbt,
    clairvoyant=True,
)
def oracle_sjf(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The requests with the shortest TRUE output of all bins (clairvoyant SJF); size = batch, or with 0 the target."""
    size = int(params[0])
    return record.num_bins, size if size > 0 else record.target[record.num_bins]
