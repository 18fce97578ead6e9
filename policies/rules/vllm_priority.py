"""vLLM's scheduling policy `priority` (vLLM 0.32, `vllm/v1/core/sched/scheduler.py:797-801`; pull request 19057)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.vllm import CAPS, as_served


@policy(
    "vllm-priority",
    engines=("continuous",),
    params=CAPS,
    adapt=as_served,
    queueing=lambda params: {"class_priority": "strict"},
    continuous=lambda params: {"returned": "ordered", "victim": "last-class"},
)
def vllm_priority(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """Classes in their order, the newest of the last is preempted: vLLM's policy priority (vLLM PR 19057)."""
    return record.num_bins, record.max_batch
