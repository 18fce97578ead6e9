"""Order by deadline under vLLM's rules; vLLM pull request 53571 proposes an order by the urgency of TTFT targets."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.vllm import CAPS, as_served


@policy(
    "vllm-slo",
    engines=("continuous",),
    params=CAPS,
    adapt=as_served,
    queueing=lambda params: {"discipline": "edf"},
)
def vllm_slo(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Earliest deadline first: arrival plus TTFT or E2E target of the class (SLO-aware order, cf. vLLM PR 53571)."""
    return record.num_bins, record.max_batch
