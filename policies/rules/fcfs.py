"""First come, first served, prefills before all decodes: the rule of vLLM's V0 engine (arXiv 2309.06180).

vLLM's present engine, V1, puts chunks of prompts beside decodes: `vllm` (asynchronous) and `sarathi` (synchronous)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy


@policy(
    "fcfs",
    engines=("continuous",),
    continuous=lambda params: {"admission": "prompt", "prefill": "first"},
)
def fcfs(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The oldest requests of all bins, once their prompts find memory; prefills first (vLLM V0, arXiv 2309.06180)."""
    return record.num_bins, record.max_batch
