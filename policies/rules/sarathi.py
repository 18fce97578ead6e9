"""Chunked prefill beside decoding (Sarathi-Serve, OSDI 2024, arXiv 2403.02310)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import token_budget
from llmsched_env.config import SimConfig


def chunked_prefill(config: SimConfig, values: Mapping[str, Any]) -> SimConfig:
    """``config`` with admission by the prompt, chunked prefill, and ``budget`` in place of its token budget if given.

    The running set is then at most as large as the budget: ``vllm serve`` caps it so (``vllm/engine/arg_utils.py``).
    """
    rules: dict[str, Any] = {"admission": "prompt", "prefill": "chunked"}
    budget = values["budget"]
    if budget is not None:
        rules["token_budget"] = budget
        config = dataclasses.replace(config, max_batch=int(min(config.max_batch, budget)))
    return dataclasses.replace(config, continuous=dataclasses.replace(config.continuous, **rules))


@policy(
    "sarathi",
    engines=("continuous",),
    params={"budget": token_budget()},
    adapt=chunked_prefill,
)
def sarathi(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The oldest requests of all bins; prompt chunks fill what decoding leaves of budget (arXiv 2403.02310)."""
    return record.num_bins, record.max_batch
