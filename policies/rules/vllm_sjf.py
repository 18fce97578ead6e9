"""Shortest job first with aging under vLLM's rules, after vLLM pull request 29366 (RFC 29406)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import number
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.vllm import CAPS, as_served


@policy(
    "vllm-sjf",
    engines=("continuous",),
    params={**CAPS, "aging": number(50, 0.001, 60000, unit="ms", auto=(5, 20, 50, 200, 1000))},
    adapt=as_served,
    queueing=lambda params: {"discipline": "sjf", "aging_s": params["aging"]},
)
def vllm_sjf(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Shortest predicted output first; waiting for aging ms weighs as much as a token less (vLLM PR 29366)."""
    return record.num_bins, record.max_batch
