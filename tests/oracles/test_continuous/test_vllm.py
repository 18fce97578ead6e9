"""The continuous oracle beside vLLM's own scheduler: equal stamps (the kernel: tests/reality/test_vllm_parity.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched.eval.reality.vllm_parity import Stamps, divergence
from llmsched.eval.reality.vllm_systems import COEFFICIENTS, System, read_stamps, read_systems
from llmsched_env.config import Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles.continuous import ContinuousSimulator, Options, cap

FOLDER = Path(__file__).parents[2] / "reality" / "vllm_stamps"
EVERY = 5
"""Of the systems every so many; the kernel runs all."""


def run(system: System, scheduling: str) -> Stamps:
    """The oracle's stamps."""
    coefficients = dict(zip(COEFFICIENTS, system.coef_ms, strict=True))
    config = SimConfig((Server(Profile("system", "split", coefficients, 16.0 * system.blocks)),), max_batch=system.seqs)
    options = Options("prompt", token_budget=system.budget, scheduling=scheduling)
    requests = Requests.checked(system.arrival, system.prompt, system.output)
    result = ContinuousSimulator(config, requests, cap(system.seqs), options, tbt_s=0.05).run()
    return Stamps(
        tuple(result.first_token.tolist()), tuple(result.completion.tolist()), tuple(result.preemptions.tolist())
    )


@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_stamps_of_vllm(scheduling: str) -> None:
    systems = read_systems(FOLDER / "systems.json.gz")
    stamps = read_stamps(FOLDER / f"{scheduling}.json.gz", systems)
    preempted = 0
    for place in range(0, len(systems), EVERY):
        assert divergence(place, systems[place], stamps[place], run(systems[place], scheduling)) is None
        preempted += sum(stamps[place].preempted)
    assert preempted > 100
