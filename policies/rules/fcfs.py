"""First come, first served, as in the first vLLM (SOSP 2023, arXiv 2309.06180)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy


@policy(
    "fcfs",
    engines=("continuous",),
    continuous=lambda params: {"admission": "prompt", "prefill": "first"},
)
def fcfs(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The oldest requests of all bins, once their prompts find memory; prefills first (vLLM, arXiv 2309.06180)."""
    return record.num_bins, record.max_batch
