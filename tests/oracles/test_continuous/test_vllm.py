"""The continuous oracle beside vLLM's own scheduler: equal stamps (the kernel: tests/reality/test_vllm_parity.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched.eval.reality.vllm_parity import Stamps, divergence, hashed
from llmsched.eval.reality.vllm_systems import COEFFICIENTS, System, read_stamps, read_systems
from llmsched_env.config import Server, SimConfig
from llmsched_env.profiles import Profile
from tests.oracles.continuous import ContinuousSimulator, Options, cap

FOLDER = Path(__file__).parents[2] / "reality" / "vllm_stamps"
EVERY = 5
"""Of the systems every so many; the kernel runs all."""


def run(system: System, scheduling: str, prefix_cache: str = "off") -> Stamps:
    """The oracle's stamps."""
    coefficients = dict(zip(COEFFICIENTS, system.coef_ms, strict=True))
    config = SimConfig((Server(Profile("system", "split", coefficients, 16.0 * system.blocks)),), max_batch=system.seqs)
    options = Options("prompt", token_budget=system.budget, scheduling=scheduling, prefix_cache=prefix_cache)
    result = ContinuousSimulator(config, hashed(system), cap(system.seqs), options, tbt_s=0.05).run()
    columns = (result.first_token, result.completion, result.preemptions, result.cached)
    return Stamps(*(tuple(column.tolist()) for column in columns))


@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_stamps_of_vllm(scheduling: str) -> None:
    systems = read_systems(FOLDER / "systems.json.gz")
    stamps = read_stamps(FOLDER / f"{scheduling}.json.gz", systems)
    preempted = 0
    for place in range(0, len(systems), EVERY):
        assert divergence(place, systems[place], stamps[place], run(systems[place], scheduling)) is None
        preempted += sum(stamps[place].preempted)
    assert preempted > 100


@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_stamps_and_hits_of_vllm_with_its_prefix_cache(scheduling: str) -> None:
    systems = read_systems(FOLDER / "systems_cache.json.gz", cached=True)
    stamps = read_stamps(FOLDER / f"cache_{scheduling}.json.gz", systems, cached=True)
    cached = 0
    for place in range(0, len(systems), EVERY - 1):
        ours = run(systems[place], scheduling, "on")
        assert divergence(place, systems[place], stamps[place], ours) is None
        cached += sum(ours.cached)
    assert cached > 10_000
