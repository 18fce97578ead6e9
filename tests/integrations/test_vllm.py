"""vLLM's own scheduler in virtual time: our engine gives its stamps, and our policies give theirs inside it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_LOGGING_LEVEL="ERROR")
pytest.importorskip("vllm")

from llmsched.eval.reality import vllm_parity
from llmsched.eval.reality.vllm.policy_parity import Setting, in_vllm, simulated
from llmsched.eval.reality.vllm.tiny_model import write_config
from llmsched.eval.reality.vllm.virtual_time import VirtualEngine
from llmsched.eval.reality.vllm_systems import System

SYSTEMS = 1000
POLICY_SYSTEMS = 100

SYNCHRONOUS = (
    "static",
    "static:batch=20",
    "dynamic:tbt=12",
    "multibin:select=oldest",
    "longest-queue",
    "sjf",
    "sjf:overdue=1.5",
    "edf",
    "least-slack",
    "aimd",
    "random",
    "sarathi",
    "network",
)
ASYNCHRONOUS = ("static", "static:batch=3", "static:batch=20", "sarathi")
"""The policies whose questions do not turn on what happens in the iteration under way (continuous.md, 10.1, 10.2)."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of a model."""
    return write_config(tmp_path_factory.mktemp("model"))


def random_system(rng: np.random.Generator) -> System:
    """A small system of a random kind: memory, seats or budget may bind, prompts may exceed the budget, arrivals tie.

    Every request fits alone: vLLM waits for ever for one that does not.
    """
    n = int(rng.integers(2, 26))
    longest = int(rng.choice([20, 60, 200, 500]))
    prompt, output = rng.integers(1, longest + 1, n), rng.integers(1, int(rng.choice([2, 30, 120])) + 1, n)
    least = math.ceil(int((prompt + output).max()) / 16)
    blocks = int(rng.choice([least, least + 1, 2 * least, 3 * least, 10_000]))
    seqs = int(rng.integers(1, 33))
    budget = int(rng.integers(seqs, seqs + int(rng.choice([2, 64, 512]))))
    arrival = np.cumsum(rng.exponential(float(rng.choice([0.002, 0.02, 0.2, 2.0])), n))
    if rng.random() < 0.2:
        arrival = arrival[np.sort(rng.integers(0, n, n))]
    law = (rng.uniform(2, 30), rng.uniform(0.05, 2), rng.uniform(0, 0.02), *rng.uniform((5, 0.02, 0), (50, 0.3, 1e-4)))
    columns = (tuple(map(float, arrival)), tuple(map(int, prompt)), tuple(map(int, output)))
    return System(blocks, seqs, budget, tuple(map(float, law)), *columns)


@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_the_engine_gives_the_stamps_of_vllm(scheduling: str, model: Path) -> None:
    """Every stamp of 1,000 random systems, prefix cache off."""
    rng = np.random.default_rng(2032)
    preempted = 0
    for place in range(SYSTEMS):
        system = random_system(rng)
        expected = VirtualEngine(system, model, asynchronous=scheduling == "async").run()
        found = vllm_parity.run(place, system, scheduling)
        assert vllm_parity.divergence(place, system, expected, found) is None, system
        assert None not in expected.done
        preempted += sum(expected.preempted)
    assert preempted > SYSTEMS


@pytest.mark.parametrize(
    ("policy", "asynchronous"), [*((p, False) for p in SYNCHRONOUS), *((p, True) for p in ASYNCHRONOUS)]
)
def test_a_policy_inside_vllm_does_what_it_does_in_the_simulator(
    policy: str, asynchronous: bool, model: Path, tmp_path: Path
) -> None:
    """Every stamp of 100 random systems, with wrong predictions, bins, targets and both rules of admission."""
    rng = np.random.default_rng(sum(map(ord, policy)))
    for place in range(POLICY_SYSTEMS):
        system = random_system(rng)
        guess = np.rint(np.array(system.output) * np.exp(0.5 * rng.standard_normal(len(system.output))))
        options = {
            "bins": (0, 15, 30),
            "slo": {"ttft": 300.0, "e2el": 900.0},
            "admission": ("predicted", "prompt")[place % 2],
        }
        predicted = np.clip(guess, 1, None).astype(int)
        setting = Setting(system, policy, predicted.tolist(), tmp_path, model, asynchronous, options)
        difference = vllm_parity.divergence(place, system, in_vllm(setting), simulated(setting))
        assert difference is None, (difference, system)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_request_is_left_behind(asynchronous: bool, model: Path, tmp_path: Path) -> None:
    """A policy that waits, sets requests apart and stops at what does not fit serves all of them in the end."""
    rng = np.random.default_rng(11)
    for _ in range(60):
        system, options = random_system(rng), {"slo": {"ttft": 100.0, "e2el": 300.0}, "admission": "prompt"}
        setting = Setting(system, "network", system.output, tmp_path, model, asynchronous, options)
        assert None not in in_vllm(setting).done, system


def test_the_tests_of_parity_can_fail(model: Path, tmp_path: Path) -> None:
    """Another policy gives other stamps."""
    rng = np.random.default_rng(7)
    found = []
    for place in range(20):
        system = random_system(rng)
        one, other = (Setting(system, policy, system.output, tmp_path, model) for policy in ("sjf", "static"))
        found.append(vllm_parity.divergence(place, system, in_vllm(one), simulated(other)))
    assert any(found)
