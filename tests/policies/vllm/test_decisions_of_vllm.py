"""The policies of vLLM, and those proposed for it: its rules and caps, but for the one decision each is about."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched_env.config import Continuous, SimConfig
from llmsched_env.servers import parse_servers
from tests.policies.tools import VLLM

CHANGES: dict[str, dict[str, Any]] = {
    "vllm": {},
    "vllm-priority": {"class_priority": "strict", "victim": "last-class", "returned": "ordered"},
    "vllm-sjf": {"discipline": "sjf", "aging_s": 0.05},
    "vllm-sjf:aging=200": {"discipline": "sjf", "aging_s": 0.2},
    "vllm-residual-sjf": {"discipline": "sjf", "returned": "ordered"},
    "vllm-slo": {"discipline": "edf"},
    "vllm-cached": {},
    "vllm-least-computed": {"victim": "least-computed"},
}
"""What a policy sets besides vLLM's rules."""

USUAL = {"class_priority": "none", "victim": "newest", "returned": "first", "discipline": "fifo", "aging_s": math.inf}
RULES = {"admission": "prompt", "prefill": "chunked", "scheduling": "async", "watermark": 0.0}


def configured(text: str, **rules: Any) -> SimConfig:
    """The system that a policy makes of an H100 server with other rules and caps."""
    given = Continuous(**{"watermark": 0.01, "scheduling": "sync", "token_budget": 77.0, **rules})
    servers = parse_servers("h100/llama-3.1-70b/vllm/fp8-tp2-unknown")
    return parse(text).configure(SimConfig(servers, max_batch=7, engine="continuous", continuous=given))


@pytest.mark.parametrize("text", CHANGES)
def test_each_changes_one_decision(text: str) -> None:
    """The caps are those of ``vllm serve`` on an H100."""
    found = configured(text)
    fields = {**vars(found.queueing), **vars(found.continuous)}
    for name, value in {**USUAL, **RULES, **CHANGES[text]}.items():
        assert fields[name] == value, name
    assert (found.max_batch, found.continuous.token_budget) == (1024, 8192)


def test_every_one_is_tried() -> None:
    assert {text.partition(":")[0] for text in CHANGES} == {"vllm", *VLLM}


@pytest.mark.parametrize("text", CHANGES)
def test_the_flags_of_a_server_are_kept(text: str) -> None:
    """Its caps, no reservation for the whole prompt, no chunks; a limit of chunks; and its cache, off or on."""
    name = f"{text}:seqs=5:budget=64"
    assert (configured(name).max_batch, configured(name).continuous.token_budget) == (5, 64)
    assert configured(text, admission="chunk").continuous.admission == "chunk"
    assert configured(text, prefill="whole").continuous.prefill == "whole"
    assert configured(text, max_chunk=9.0).continuous.max_chunk == 9.0
    assert [configured(text, prefix_cache=word).continuous.prefix_cache for word in ("off", "on")] == ["off", "on"]


def answer(text: str, **fields: Any) -> tuple[int, int]:
    """What a policy answers to a record."""
    bound = parse(text)
    usual: dict[str, Any] = {"num_bins": 3, "max_batch": 40, "running": 6, "now": 9.0, "oldest_arrival": 8.0}
    usual |= {"queue_length": np.array([1, 1, 1, 3]), "head_cached": np.array([0, 64, 16, 0])}
    record = SimpleNamespace(**(usual | fields))
    params = np.array(list(bound.encoded.values())[: len(bound.policy.params)], float)
    return bound.policy.function(record, params, np.zeros(1), np.random.default_rng(0))


@pytest.mark.parametrize("text", [text for text in CHANGES if text != "vllm-cached"])
def test_all_that_fit_are_admitted_in_the_order_of_the_queue(text: str) -> None:
    assert answer(text) == (3, 40)


def test_the_longest_cached_prefix_first_but_nobody_waits_for_ever() -> None:
    """One at a time; without a hit, and after 5 s, the oldest."""
    assert answer("vllm-cached") == (1, 7)
    assert answer("vllm-cached", queue_length=np.array([1, 0, 1, 2])) == (2, 7)
    assert answer("vllm-cached", head_cached=np.zeros(4)) == (3, 7)
    assert answer("vllm-cached", now=13.0) == (1, 7)
    assert answer("vllm-cached", now=13.1) == (3, 7)
    assert answer("vllm-cached:wait=1000", now=9.1) == (3, 7)
