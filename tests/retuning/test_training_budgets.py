"""What the network of the engine `continuous` is trained with: systems, rules, and the tokens of an iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched.policies.network import checkpoint
from llmsched.policies.network.hardware import with_hardware
from llmsched.policies.rules.grids import TOKEN_BUDGETS
from llmsched.train import validation
from llmsched.train.systems import TRAINING_SEED
from llmsched.train.systems_continuous import ContinuousSystem, recent_systems, training_systems
from llmsched_env.options.presets import vllm_sizes
from llmsched_env.workload.targets import alone_slo

WEIGHTS = checkpoint.load_shipped("continuous").packed


def test_systems_have_names_of_their_own() -> None:
    """Budgets are kept by name: two systems of one name would share them."""
    names = [system.name for system in training_systems()]
    assert len(set(names)) == len(names) > len(recent_systems())


def test_targets_and_rules_of_a_recent_system() -> None:
    system = recent_systems()[0]
    profile = system.config.servers[0].profile
    alone = alone_slo(profile, "azure-conv")
    assert system.slo.ttft_s == pytest.approx(2.73 * alone.ttft_s) and system.slo.tpot_s == pytest.approx(
        1.37 * alone.tpot_s
    )
    assert system.slo.ttft_s == pytest.approx(1.0, rel=0.01) and system.slo.tpot_s == pytest.approx(0.020, rel=0.01)
    sizes = vllm_sizes(profile.meta["gpu"])
    assert (
        system.config.max_batch == sizes["max_batch"] and system.config.continuous.token_budget == sizes["token_budget"]
    )
    assert system.config.continuous.scheduling == "async"
    for other in recent_systems():
        unlimited = any(math.isinf(server.eta) for server in other.config.servers)
        assert other.config.continuous.prefix_cache == ("off" if unlimited else "on")


def test_the_best_budget_is_the_one_that_misses_the_fewest() -> None:
    """Written anew, for one system at one load."""
    system, load, seeds = ContinuousSystem(servers=1, workload="azure-code"), 2.5, (TRAINING_SEED, TRAINING_SEED + 1)
    found = validation.best_budgets([system], seeds, 200, (load,), WEIGHTS)
    missed = {}
    for budget in TOKEN_BUDGETS:
        simulator = validation.ReusedSimulator(system.config, 200)
        numbers, policy = with_hardware(WEIGHTS, system.config, budget), validation.network_policy(budget)
        drawn = [system.arrivals(load * system.capacity, 200).draw(seed, "validation") for seed in seeds]
        missed[float(budget)] = sum(simulator.misses(policy, each, numbers) for each in drawn)
    assert len(set(missed.values())) > 1
    assert missed[found[system.name, load]] == min(missed.values())


def test_a_run_is_scored_with_its_budget() -> None:
    system, load = ContinuousSystem(servers=1, workload="azure-code"), 2.5
    few, many = (
        validation.make_runs([system], (TRAINING_SEED,), 200, (load,), "sarathi", {(system.name, load): budget})[0]
        for budget in (256.0, 8192.0)
    )
    assert (few.budget, many.budget) == (256.0, 8192.0)
    (short,), (long,) = (validation.score_weights([run], WEIGHTS).rows for run in (few, many))
    assert short["misses"] != long["misses"] and short["best"] == long["best"]
    plain = validation.make_runs([system], (TRAINING_SEED,), 200, (load,), "sarathi")[0]
    assert plain.budget is None and np.isfinite(validation.score_weights([plain], WEIGHTS).mean)
