"""Batches as large as memory and the target time between tokens allow (SLA paper, arXiv 2503.05248)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import set_tbt, tbt


@policy("dynamic", params={"tbt": tbt()}, controller=set_tbt)
def dynamic(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The oldest requests of all bins; size = the controllers' target (SLA paper, arXiv 2503.05248)."""
    return record.num_bins, record.target[record.num_bins]
