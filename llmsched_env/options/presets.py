"""Rules of serving engines by name: what an engine of a version does where nothing is set by hand.

A preset gives defaults to options of the engine `continuous`; an option that is given wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from llmsched_env.options.gpus import memory_gib

OWN = "own"

TARGETS: Mapping[str, Mapping[str, float]] = {
    "mlperf-70b": {"ttft": 2.0, "tpot": 0.200},
    "mlperf-70b-interactive": {"ttft": 0.450, "tpot": 0.040},
    "mlperf-8b": {"ttft": 2.0, "tpot": 0.100},
    "mlperf-8b-interactive": {"ttft": 0.500, "tpot": 0.030},
    "mlperf-405b": {"ttft": 6.0, "tpot": 0.175},
    "mlperf-405b-interactive": {"ttft": 4.5, "tpot": 0.080},
}
"""Limits in seconds by name: those of MLPerf Inference 5.1 for Llama-2-70B, Llama-3.1-8B and Llama-3.1-405B in its
scenarios server (conversational) and interactive, which 99 % of the requests have to meet (inference_rules.adoc of
mlcommons/inference_policies)."""

VLLM_V1: Mapping[str, Any] = {
    "admission": "prompt",
    "prefill": "chunked",
    "scheduling": "async",
    "watermark": 0.0,
    "prefix_cache": "on",
}
"""vLLM's scheduler as it serves on GPUs: asynchronous since 0.14 (``vllm/config/vllm.py:1644`` of 0.32), chunked
prefill, no watermark (``vllm/config/scheduler.py:196``), prefix cache (``vllm/config/cache.py:141``)."""

RULES: Mapping[str, Mapping[str, Any]] = {OWN: {}, "vllm-0.32": VLLM_V1, "vllm-0.19": VLLM_V1}
"""Options by name of a preset.  What 0.32 added to the scheduler of 0.19 is off by default."""

LARGE_GIB = 70.0
LARGE = {"max_batch": 1024, "token_budget": 8192.0}
SMALL = {"max_batch": 256, "token_budget": 2048.0}
"""``max_num_seqs`` and ``max_num_batched_tokens`` of ``vllm serve`` 0.32 (``vllm/engine/arg_utils.py:2933-2952``)."""


def vllm_sizes(gpu: str) -> dict[str, Any]:
    """Caps on the running set and on the tokens of an iteration that ``vllm serve`` sets for a GPU of this name.

    Large ones where the GPU has at least 70 GiB and is no A100, else, and where its memory is not known, small ones.
    """
    large = (memory_gib(gpu) or 0.0) >= LARGE_GIB and "a100" not in gpu.lower()
    return dict(LARGE if large else SMALL)


def sizes_of(gpus: list[str]) -> dict[str, Any]:
    """`vllm_sizes` of servers of several kinds: the smallest, since one scheduler configuration holds for all."""
    found = [vllm_sizes(gpu) for gpu in gpus]
    return {name: min(sizes[name] for sizes in found) for name in SMALL}


def ruled(rules: str) -> frozenset[str]:
    """The options by name that a preset sets."""
    return frozenset(RULES[rules]) | (frozenset(SMALL) if rules != OWN else frozenset())


def preset(rules: str, gpus: list[str], token_budget: float | None = None) -> dict[str, Any]:
    """The options by name that a preset sets on servers with these GPUs.

    ``token_budget``: one that is given.  The cap on the running set does not exceed it (``vllm/engine/arg_utils.py``).
    """
    if rules == OWN:
        return {}
    found = {**RULES[rules], **sizes_of(gpus)}
    if token_budget is not None:
        found["max_batch"] = int(min(found["max_batch"], token_budget))
    return found


def against_cache(kv_tokens: Iterable[float], discipline: str) -> str:
    """Why there can be no prefix cache, after ``prefix_cache='on'``; empty where there can be one.

    ``kv_tokens``: the KV memory of every server, ``inf`` without a limit.
    """
    if any(math.isinf(tokens) for tokens in kv_tokens):
        return "needs a limit of the KV memory: give kv_tokens, or prefix_cache='off'"
    if discipline == "oracle-srpt":
        preempted = "which preempts requests whose blocks others have just found"
        return f"does not go with discipline='oracle-srpt', {preempted}: give prefix_cache='off', or drop oracle-srpt"
    return ""
