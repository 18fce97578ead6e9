"""Fixed batches from one queue: what a server does out of the box."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import batch


@policy("static", params={"batch": batch(8)})
def static(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The oldest requests of all bins, in batches of a fixed size, launched at once."""
    return record.num_bins, int(params[0])
