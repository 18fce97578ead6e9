"""Refusals and impatient clients in both compiled engines, against the oracles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsched_env.config import SimConfig
from llmsched_env.core.constants import ABANDONED, REASONS
from tests.oracles.continuous.cases import chooser, dice, with_losses
from tests.simulator import test_parity as batch
from tests.simulator import test_parity_continuous as continuous
from tests.simulator.test_parity import COMMON


def losing(draw, lattice: bool) -> SimConfig:
    """A configuration of the engine `batch` with refusals and patience."""
    config = draw(batch.configs(lattice=lattice))
    queueing = with_losses(chooser(draw), config.queueing, lattice)
    return dataclasses.replace(config, queueing=queueing)


@pytest.mark.parametrize("lattice", [False, True])
@settings(COMMON, max_examples=300)
@given(st.data())
def test_batch(lattice: bool, data: st.DataObject) -> None:
    """Every reason, patience and every timer under random answers; on the lattice equal bits."""
    config, requests = losing(data.draw, lattice), data.draw(batch.workloads(lattice=lattice))
    runs = batch.both(config, requests, "scripted", batch.script(data.draw, config))
    batch.assert_equal_runs(*runs, rtol=0 if lattice else 1e-9)


@pytest.mark.parametrize("lattice", [False, True])
@settings(COMMON, max_examples=200)
@given(st.data())
def test_continuous(lattice: bool, data: st.DataObject) -> None:
    """The same in the engine `continuous`, with and without a prefix cache."""
    run = continuous.scripted_runs(chooser(data.draw), lattice, cached=data.draw(st.booleans()), losses=True)
    continuous.assert_equal_runs(run, rtol=0 if lattice else 1e-9)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("lattice", [False, True])
def test_continuous_by_lot(lattice: bool, cached: bool) -> None:
    """What Hypothesis finds hard to reach, and that every reason occurs."""
    seen = np.zeros(len(REASONS), int)
    abandoned = 0
    for seed in range(270):
        run = continuous.scripted_runs(dice(seed), lattice, cached, losses=True)
        try:
            continuous.assert_equal_runs(run, rtol=0 if lattice else 1e-9)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {run.fast.config}: {error}") from None
        seen += np.bincount(run.fast.requests["reason"], minlength=len(REASONS))
        abandoned += run.slow.count(ABANDONED)
    assert (seen > 50).all(), dict(zip(REASONS, seen, strict=True))
    assert abandoned > 100
