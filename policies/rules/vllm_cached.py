"""Cache-affinity order under vLLM's rules, after vLLM RFC 42185 and pull request 54625 (in SGLang: longest prefix)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import number
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.vllm import CAPS, as_served


@policy(
    "vllm-cached",
    engines=("continuous",),
    params={**CAPS, "wait": number(5000, 0, 1e9, unit="ms", auto=(1000, 5000, 20000))},
    adapt=as_served,
    details=True,
)
def vllm_cached(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The first request of the bin of which the cache holds most, for wait ms at most (vLLM PR 54625)."""
    best, most = record.num_bins, 0
    if record.now - record.oldest_arrival <= params[2]:
        for k in range(record.num_bins):
            if record.queue_length[k] > 0 and record.head_cached[k] > most:
                best, most = k, record.head_cached[k]
    return best, record.running + 1
