"""Batches of a fixed size from one queue: the default of a plain server."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import batch


@policy("static", params={"batch": batch(8)})
def static(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Batches of a fixed size of the oldest requests of all bins, launched without waiting."""
    return record.num_bins, int(params[0])
