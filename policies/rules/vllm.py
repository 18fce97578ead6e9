"""vLLM's scheduler as ``vllm serve`` runs it on GPUs today (0.32): first come, first served, asynchronous."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from llmsched.policies.parameters import setting
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched_env.config import SimConfig
from llmsched_env.options.presets import VLLM_V1, sizes_of
from llmsched_env.servers import gpu_of

CAPS = {"seqs": setting("max_batch"), "budget": setting("token_budget")}
"""Parameters: vLLM's caps on the running set and on the tokens of an iteration; none: those for the GPU."""

SWITCHES = {"admission": ("prompt", "chunk"), "prefill": ("chunked", "whole")}
"""What vLLM has flags for; a configuration that sets one of these words keeps it."""


def as_served(config: SimConfig, values: Mapping[str, Any]) -> SimConfig:
    """``config`` with vLLM's rules, and its caps for the GPUs of the servers where none are given.

    The prefix cache is left to the scenario: what prompts share is a matter of the workload, and all policies of a
    comparison have the same memory.
    """
    sizes = sizes_of([gpu_of(server.profile) for server in config.servers])
    seqs, budget = values["seqs"], values["budget"]
    budget = sizes["token_budget"] if budget is None else budget
    rules = {name: value for name, value in VLLM_V1.items() if name != "prefix_cache"}
    for name, words in SWITCHES.items():
        given = getattr(config.continuous, name)
        rules[name] = given if given in words else rules[name]
    continuous = dataclasses.replace(config.continuous, **rules, token_budget=budget)
    seqs = int(min(sizes["max_batch"], budget) if seqs is None else seqs)
    return dataclasses.replace(config, continuous=continuous, max_batch=seqs)


@policy(
    "vllm",
    engines=("continuous",),
    params=CAPS,
    adapt=as_served,
)
def vllm(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The oldest requests of all bins under vLLM 0.32's rules; none: its caps for the GPU (arXiv 2309.06180)."""
    return record.num_bins, record.max_batch
