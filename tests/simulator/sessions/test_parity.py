"""Sessions and closed loops in both compiled engines, against the oracles."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult
from tests.oracles.continuous.cases import Pick, chooser, dice, make_case, make_script, with_losses
from tests.simulator import test_parity as batch
from tests.simulator import test_parity_continuous as continuous
from tests.simulator.test_parity import COMMON
from tests.simulator.test_parity_losses import losing


def with_sessions(pick: Pick, requests: Requests, lattice: bool) -> Requests:
    """``requests`` in chains and trees, some of one request, open or with a few clients."""
    rng, n = np.random.default_rng(pick(range(2**16))), len(requests)
    share = pick([0.7, 0.95, 0.3, 0.0])
    back = pick([1, 3, 40])
    rows = np.arange(n)
    parent = np.maximum(rows - rng.integers(1, back + 1, n), -1)
    parent[rng.random(n) >= share] = -1
    think = rng.integers(0, 3, n).astype(float) if lattice else rng.exponential(pick([0.5, 0.05, 3.0]), n)
    if pick([False, True]):
        think[rng.random(n) < 0.5] = 0.0
    concurrency = pick([0, 0, 1, 2, 5])
    return dataclasses.replace(requests, parent=parent.astype(np.int32), think_s=think, concurrency=concurrency)


def assert_equal_plans(fast: RunResult, slow: Any, rtol: float) -> None:
    """The same requests arrived in the same order at the same times."""
    np.testing.assert_array_equal(fast.planned, slow.planned)
    np.testing.assert_allclose(fast.requests["arrival"], slow.arrival, rtol=rtol)


def assert_batch(data: st.DataObject, lattice: bool) -> None:
    """One run of the engine `batch`."""
    pick = chooser(data.draw)
    config = losing(data.draw, lattice) if data.draw(st.booleans()) else data.draw(batch.configs(lattice=lattice))
    requests = with_sessions(pick, data.draw(batch.workloads(lattice=lattice)), lattice)
    fast, slow = batch.both(config, requests, "scripted", batch.script(data.draw, config))
    batch.assert_equal_runs(fast, slow, rtol=0 if lattice else 1e-9)
    assert_equal_plans(fast, slow, rtol=0 if lattice else 1e-9)


@pytest.mark.parametrize("lattice", [False, True])
@settings(COMMON, max_examples=250)
@given(st.data())
def test_batch(lattice: bool, data: st.DataObject) -> None:
    """Chains, trees, clients, losses of every kind, both releases; on the lattice equal bits."""
    assert_batch(data, lattice)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("lattice", [False, True])
def test_continuous(lattice: bool, cached: bool) -> None:
    """The same in the engine `continuous`, with and without a prefix cache."""
    closed = lost = chained = 0
    for seed in range(150):
        pick = dice(seed)
        case = make_case(pick, lattice, drained=False, cached=cached)
        case = dataclasses.replace(case, requests=with_sessions(pick, case.requests, lattice))
        if pick([True, False]):
            deadlines = not case.options.srpt and case.options.returned == "first"
            queueing = with_losses(pick, case.config.queueing, lattice, deadlines)
            case = dataclasses.replace(case, config=dataclasses.replace(case.config, queueing=queueing))
        answers = [value for answer in make_script(pick, case.config) for value in answer]
        run = continuous.both(case, "scripted", answers)
        try:
            continuous.assert_equal_runs(run, rtol=0 if lattice else 1e-9)
            assert_equal_plans(run.fast, run.slow, rtol=0 if lattice else 1e-9)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {run.fast.config}: {error}") from None
        closed += case.requests.concurrency > 0
        lost += int(run.fast.counts["refused"] + run.fast.counts["abandoned"] + run.fast.counts["rejected"])
        assert case.requests.parent is not None
        chained += int(np.count_nonzero(case.requests.parent >= 0))
    assert closed > 30
    assert lost > 500
    assert chained > 1000
