"""How good weights are: their misses against those of the best heuristic of every run, in the compiled loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import Bound, get, parse_list
from llmsched.policies.network.hardware import with_hardware
from llmsched.policies.rules.grids import TOKEN_BUDGETS
from llmsched.train.systems import ReusedSimulator, TrainingSystem
from llmsched_env.requests import Requests

RIVALS = (
    "static:batch=16,static:batch=32,static:batch=64,dynamic,multibin,multibin:select=oldest,longest-queue,sjf,"
    "sjf:batch=16,sjf:batch=32,sjf:batch=64,least-slack,timeout:batch=16:wait=1000,multibin-fixed:batch=8,"
    "multibin-fixed:batch=16"
)
"""The heuristics that the network is compared with; none uses true output lengths."""

LOADS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
"""Loads of the runs that are trained on."""

FLOOR = 0.005
"""Share of misses that is added on both sides before their ratio is taken, so that two small shares count as equal."""


class Named(Protocol):
    """Whatever has a name."""

    @property
    def name(self) -> str:
        """A short text that tells it from the others."""
        ...


@dataclass(frozen=True)
class ScoredRun:
    """A run to score weights on: a system's arrivals at a load, and what the best heuristic misses on them."""

    system: Named
    load: float
    simulator: ReusedSimulator
    requests: Requests
    best: float  # share of the requests that the best heuristic misses
    rival: str  # the best heuristic
    first: int = 0  # requests before this number are not scored
    budget: float | None = None  # tokens of an iteration, in `continuous`; None: those that the policy chooses


Budgets = Mapping[tuple[str, float], float]
"""Tokens of an iteration by name of the system and load."""


def make_runs(
    systems: Sequence[TrainingSystem],
    seeds: Sequence[int],
    requests: int,
    loads: Sequence[float] = LOADS,
    rivals: str = RIVALS,
    budgets: Budgets | None = None,
) -> list[ScoredRun]:
    """Runs of every system at every load with every seed of the split "validation"; the heuristics are run here.

    ``budgets``: those of the network's runs (`best_budgets`).
    """
    heuristics = parse_list(rivals)
    runs = []
    for system in systems:
        simulator = ReusedSimulator(system.config, requests)
        for load in loads:
            for seed in seeds:
                drawn = system.arrivals(load * system.capacity, requests).draw(seed, "validation")
                misses = [simulator.misses(heuristic, drawn) for heuristic in heuristics]
                place = int(np.argmin(misses))
                budget = (budgets or {}).get((system.name, load))
                about = misses[place], heuristics[place].text
                runs.append(ScoredRun(system, load, simulator, drawn, *about, budget=budget))
    return runs


def best_budgets(
    systems: Sequence[TrainingSystem],
    seeds: Sequence[int],
    requests: int,
    loads: Sequence[float],
    params: NDArray[np.float64],
) -> Budgets:
    """The tokens of an iteration with which packed weights (P,) miss the fewest on ``seeds``, as `budget=auto` does."""
    found = {}
    for system in systems:
        simulator = ReusedSimulator(system.config, requests)
        for load in loads:
            drawn = [system.arrivals(load * system.capacity, requests).draw(seed, "validation") for seed in seeds]
            missed = [
                sum(
                    simulator.misses(network_policy(budget), each, with_hardware(params, system.config, budget))
                    for each in drawn
                )
                for budget in TOKEN_BUDGETS
            ]
            found[system.name, load] = float(TOKEN_BUDGETS[int(np.argmin(missed))])
    return found


def network_policy(budget: float | None = None) -> Bound:
    """The policy `network` with this many tokens an iteration; the weights are given at every run."""
    policy = get("network").bind()
    return policy if budget is None else policy.with_params(budget=budget)


@dataclass(frozen=True)
class WeightScore:
    """``mean`` is the mean log ratio of misses to the best heuristic's (below 0: better); ``rows`` are the runs."""

    mean: float
    rows: list[dict[str, Any]]


def score_weights(runs: Sequence[ScoredRun], params: NDArray[np.float64], policy: Bound | None = None) -> WeightScore:
    """The score of packed weights (P,) on ``runs``, with the queues of ``policy`` (those of `network` if none)."""
    rows = []
    for run in runs:
        numbers = with_hardware(params, run.simulator.config, run.budget)
        bound = policy or network_policy(run.budget)
        misses = run.simulator.misses(bound, run.requests, numbers, run.first)
        ratio = math.log((misses + FLOOR) / (run.best + FLOOR))
        about = {"system": run.system.name, "load": run.load, "best": run.best, "rival": run.rival}
        rows.append({**about, "misses": misses, "log": ratio})
    return WeightScore(float(np.mean([row["log"] for row in rows])), rows)


def misses_by_load(score: WeightScore) -> dict[float, tuple[float, float]]:
    """By load: mean share of misses of the network, and of the best heuristics."""
    found = {}
    for load in sorted({row["load"] for row in score.rows}):
        rows = [row for row in score.rows if row["load"] == load]
        found[load] = float(np.mean([r["misses"] for r in rows])), float(np.mean([r["best"] for r in rows]))
    return found
