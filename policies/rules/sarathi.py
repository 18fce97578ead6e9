"""Chunked prefill beside decoding (Sarathi-Serve, OSDI 2024, arXiv 2403.02310)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmsched.policies.parameters import setting
from llmsched.policies.registry import Decision, Floats, Record, policy


def chunked_prefill(params: Mapping[str, float]) -> dict[str, Any]:
    """Admission by the prompt, chunked prefill, and ``budget`` in place of the scenario's token budget if given."""
    budget = {"token_budget": params["budget"]} if params["budget"] < float("inf") else {}
    return {"admission": "prompt", "prefill": "chunked", **budget}


@policy(
    "sarathi",
    engines=("continuous",),
    params={"budget": setting("token_budget", auto=(256, 512, 1024, 2048, 4096, 8192))},
    continuous=chunked_prefill,
)
def sarathi(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The oldest requests of all bins; prompt chunks fill what decoding leaves of budget (arXiv 2403.02310)."""
    return record.num_bins, record.max_batch
