"""Rows of what a decision costs: the forecasts and both networks, each with its own runs behind it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from llmsched.eval.scenarios.variants import scenario_of
from llmsched.eval.speed import decision
from llmsched.eval.speed.kernel import with_requests
from llmsched.policies import parse
from llmsched_env.simulation.simulator import simulate


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences of what the notes say."""
    monkeypatch.setattr(decision, "REQUESTS", 300)
    monkeypatch.setattr(decision, "BINS", (4,))
    forecasts, *networks = decision.measure(1)
    assert [row.name for row in (forecasts, *networks)] == ["forecasts, 4 bins", "network, 4 bins", "ppo, 4 bins"]
    with_forecasts, without = (float(x) for x in re.findall(r"([0-9.]+) us", forecasts.note))
    assert forecasts.unit == "us" and forecasts.value == pytest.approx(with_forecasts - without, abs=0.011)
    for row in networks:
        whole, asked_twice = (float(x) for x in re.findall(r"([0-9.]+) us", row.note))
        assert np.isfinite(row.value) and row.value == pytest.approx(asked_twice - whole, abs=0.011)


def test_a_policy_that_decides_twice_does_the_same() -> None:
    """The same stamps, and a decision more of every decision."""
    scenario = scenario_of("--bins", "2").at_rate(20.0)
    requests = with_requests(scenario, 300).draw(0)
    bound = parse("network")
    ready = bound.ready(scenario.config)
    once, twice = (
        simulate(ready.config, requests, decide, **ready.options).requests["completion"]
        for decide in (ready.decide, decision.twice(bound.decide))
    )
    assert np.isfinite(once).all()
    np.testing.assert_array_equal(once, twice)
