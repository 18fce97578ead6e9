"""`sarathi`: what its budget sets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse
from llmsched.policies.rules.grids import TOKEN_BUDGETS
from llmsched_env.simulation.simulator import Simulator

CONFIG = scenario_of("--engine", "continuous").config
"""The default scenario: running sets to 1,024, a budget of 8,192 tokens."""


def test_without_a_budget_the_scenario_keeps_its_own() -> None:
    found = parse("sarathi").configure(replace(CONFIG, continuous=replace(CONFIG.continuous, prefill="first")))
    assert found.continuous.prefill == "chunked" and found.continuous.admission == "prompt"
    assert (found.continuous.token_budget, found.max_batch) == (8192.0, 1024)


@pytest.mark.parametrize(("budget", "most"), [(256, 256), (1024, 1024), (4096, 1024)])
def test_a_budget_bounds_the_running_set(budget: int, most: int) -> None:
    """As vLLM's own command line does: decoding alone cannot use up an iteration."""
    found = parse(f"sarathi:budget={budget}").configure(CONFIG)
    assert (found.continuous.token_budget, found.max_batch) == (budget, most)


def test_every_budget_of_the_grid_runs_in_the_default_scenario() -> None:
    bound = parse("sarathi:budget=auto")
    assert list(bound.autos["budget"]) == list(map(float, TOKEN_BUDGETS))
    for budget in TOKEN_BUDGETS:
        Simulator(bound.with_params(budget=float(budget)).configure(CONFIG), 1)  # refuses what cannot run
