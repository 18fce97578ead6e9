"""Shortest remaining output first, clairvoyant and preemptive; not a bound, because what it evicts is recomputed."""

from __future__ import annotations

import numpy as np

from policies.grids import batch_or_target, set_tbt, tbt
from policies.registry import Decision, Floats, Record, policy


@policy(
    "oracle-srpt",
    engines=("continuous",),
    params={"batch": batch_or_target(), "tbt": tbt()},
    queueing=lambda params: {"discipline": "oracle-srpt"},
    controller=set_tbt,
    clairvoyant=True,
)
def oracle_srpt(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The requests with least TRUE output left; may evict at a boundary, recomputation charged (clairvoyant SRPT)."""
    size = int(params[0])
    return record.num_bins, size if size > 0 else record.target[record.num_bins]
