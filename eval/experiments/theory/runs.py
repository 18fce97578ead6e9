"""Saturated systems, one server with all requests waiting from the start, and their throughput."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmsched.eval.cli.frame import Session
from llmsched.eval.report.tables import Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import OF_2023, scenario_of
from llmsched.policies import parse

Step = tuple[list[Table], dict[str, Callable]]
"""The tables of a step away from the theorem, and its figures by name."""

SATURATED = ("--servers", "1", "--rate", "1e6", "--kv-tokens", "inf", "--controller", "paper:tbt=1000")
"""All requests wait from the start and memory is no limit; no policy reads the controllers' D."""

FILL = 400
"""Least number of requests per bin and place in a batch for the theorem itself: the last batches, which are not full,
then cost less than 0.3 %."""

LOADED_REQUESTS = 20_000
"""Requests of a run of the default scenario."""

BINS, BATCH = 4, 32
"""Bins and batch of the steps on prediction error and latency models."""


@dataclass(frozen=True)
class TheoryRun:
    """One system to run under every seed: its policy, its scenario, and the factors that mark its rows."""

    policy: str
    scenario: Scenario
    factors: dict[str, object]


def saturated_scenario(
    workload: str, profile: str, predictor: str, bins: int, requests: int, batch: int = BATCH
) -> Scenario:
    """One server, all requests waiting from the start."""
    words = ("--workload", workload, "--profile", profile, "--predictor", predictor, "--bins", str(bins))
    return scenario_of(*OF_2023, *SATURATED, *words, "--requests", str(requests), "--max-batch", str(batch))


def run_systems(session: Session, systems: Sequence[TheoryRun], label: str) -> list[list[Outcome]]:
    """Outcomes by system and seed."""
    seeds = session.seeds
    cells = [Cell(system.policy, parse(system.policy), system.scenario, seed) for system in systems for seed in seeds]
    found = session.runs(cells, label, [system.factors for system in systems for _ in seeds])
    return [found[row * len(seeds) : (row + 1) * len(seeds)] for row in range(len(systems))]


def rates(runs: Sequence[Outcome]) -> list[float]:
    """Throughput of every seed, requests/s."""
    return [outcome.summary["request_throughput"] for outcome in runs]


def gain(runs: Sequence[Outcome], base: Sequence[Outcome]) -> Interval:
    """Relative gain in throughput over ``base``, paired by seed."""
    return interval([one / other - 1.0 for one, other in zip(rates(runs), rates(base), strict=True)])
