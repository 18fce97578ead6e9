"""vLLM's own scheduler in virtual time: our engine gives its stamps, and our policies give theirs inside it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_LOGGING_LEVEL="ERROR")
pytest.importorskip("vllm")

from llmsched.eval.reality import vllm_parity
from llmsched.eval.reality.vllm.policy_parity import Setting, in_vllm, simulated
from llmsched.eval.reality.vllm.tiny_model import write_config
from llmsched.eval.reality.vllm.virtual_time import VirtualEngine
from llmsched.eval.reality.vllm_systems import FIRST_OUTPUT, System

SYSTEMS = 250
POLICY_SYSTEMS = 25

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


def with_switches(rng: np.random.Generator, system: System) -> System:
    """The system with any of the three switches of the scheduler turned.

    Without chunked prefill vLLM wants a budget for the longest request.
    """
    threshold = int(rng.choice([0, 0, 1, 8, 40])) if system.budget > 1 else 0
    chunked, reserve = bool(rng.random() < 0.6), bool(rng.random() < 0.5)
    longest = max(p + o for p, o in zip(system.prompt, system.output, strict=True))
    budget = system.budget if chunked else max(system.budget, longest + int(rng.integers(0, 40)))
    return replace(system, budget=budget, threshold=threshold, chunked=chunked, reserve=reserve)


def with_contents(rng: np.random.Generator, system: System) -> System:
    """The system with tokens: of the requests' own, shared beginnings, turns of conversations, equal prompts."""
    kind = rng.choice(["own", "beginning", "turn", "equal"])
    texts = [rng.integers(0, 500, int(rng.integers(1, 160))).tolist() for _ in range(int(rng.integers(1, 4)))]
    tokens: list[tuple[int, ...]] = []
    for i in range(len(system.arrival)):
        head = texts[int(rng.integers(len(texts)))]
        if kind == "turn" and i > 0 and rng.random() < 0.7:
            j = int(rng.integers(i))
            head = [*tokens[j], *[FIRST_OUTPUT + j] * system.output[j]]
        tail = rng.integers(1000, 1005, int(rng.integers(1, 80))) + 7 * i
        tokens.append(tuple([] if kind == "own" else head[:400]) + (() if kind == "equal" else tuple(tail.tolist())))
    prompt = tuple(map(len, tokens))
    least = math.ceil(max(p + o for p, o in zip(prompt, system.output, strict=True)) / 16)
    blocks = int(rng.choice([least, least + 1, 2 * least, 3 * least, 5 * least, 10_000]))
    return replace(system, prompt=prompt, tokens=tuple(tokens), blocks=blocks)


@pytest.mark.parametrize("switched", [False, True])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("scheduling", ["sync", "async"])
def test_the_engine_gives_the_stamps_of_vllm(scheduling: str, cached: bool, switched: bool, model: Path) -> None:
    """Every stamp of 250 random systems, with and without a prefix cache, and with the three switches."""
    rng = np.random.default_rng(2032)
    preempted = found_tokens = differ = 0
    for place in range(SYSTEMS):
        system = random_system(rng)
        system = with_contents(rng, system) if cached else system
        plain, system = system, with_switches(rng, system) if switched else system
        expected = VirtualEngine(system, model, asynchronous=scheduling == "async").run()
        found = vllm_parity.run(place, system, scheduling, cached)
        assert vllm_parity.divergence(place, system, expected, found) is None, system
        assert None not in expected.done
        preempted += sum(expected.preempted)
        found_tokens += sum(expected.cached)
        if switched:
            other = replace(system, threshold=plain.threshold, chunked=plain.chunked, reserve=plain.reserve)
            differ += vllm_parity.run(place, other, scheduling, cached).done != found.done
    assert preempted > SYSTEMS // 2
    assert cached == (found_tokens > 100 * SYSTEMS)
    assert switched == (differ > SYSTEMS // 10)


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
