"""Choices made on validation seeds, never on the scored ones: `=auto` parameters, D, and `--load`."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmsched.eval.cli.progress import Progress
from llmsched.eval.runs.cells import Crew, crew_of
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound, parse
from llmsched_env.simulation.templates import safe_tbt_s
from llmsched_env.simulation.threshold import RateSearch, run_alone

VALIDATION_SEEDS = range(3)
"""Seeds of the split "validation", which is independent of the scored seeds of equal number."""

VALIDATED = f"validation seeds {VALIDATION_SEEDS[0]} to {VALIDATION_SEEDS[-1]}"

CAPACITY_ATTAINMENT = 0.95
"""A rate is within capacity when at least this share of all arrivals meets its SLO."""

RATE_TOLERANCE = 0.01
"""Relative precision of a capacity."""

REFERENCE = "static:batch=auto"
"""The policy whose capacity is the unit of --load."""

TBT_GRID_S = (0.025, 0.030, 0.035, 0.040, 0.050, 0.060, 0.080, 0.100, 0.150, 0.200)
"""Values of D, the controllers' target between tokens, that `tbt=auto` tries."""


@dataclass(frozen=True)
class ValidationScore:
    """Means over validation seeds: SLO attainment (or what the goal scores), and E2E latency in ms."""

    attainment: float
    mean_e2e_ms: float

    @property
    def order(self) -> tuple[float, float]:
        """A key that sorts the better last: higher attainment, then lower latency."""
        return self.attainment, -self.mean_e2e_ms if math.isfinite(self.mean_e2e_ms) else -math.inf


def attainment_of(summary: Mapping[str, Any]) -> float:
    """The share of the arrivals of a run that met their SLO."""
    return float(summary["slo_attainment"])


@dataclass(frozen=True)
class Goal:
    """What a rate has to keep: the mean over the validation seeds of ``score``, of a run's summary, reaches ``bar``."""

    score: Callable[[Mapping[str, Any]], float] = attainment_of
    bar: float = CAPACITY_ATTAINMENT


def scores(
    trials: Sequence[tuple[Bound, Scenario]], jobs: int | Crew, label: str, goal: Goal | None = None
) -> list[ValidationScore]:
    """Scores of (policy, scenario) pairs on the validation seeds; equal workloads have common arrivals."""
    cells = [
        Cell(str(row), policy, scenario, seed, "validation")
        for seed in VALIDATION_SEEDS
        for row, (policy, scenario) in enumerate(trials)
    ]
    found: dict[str, list[Outcome]] = {}
    with Progress(label, len(cells)) as progress:
        for done in crew_of(jobs).run_cells(cells, progress.look):
            found.setdefault(done.outcome.policy, []).append(done.outcome)
            progress.step(stored=done.stored)
    return [_score(found[str(row)], goal or Goal()) for row in range(len(trials))]


def _score(runs: Sequence[Outcome], goal: Goal) -> ValidationScore:
    attainment = math.fsum(goal.score(run.summary) for run in runs) / len(runs)
    return ValidationScore(attainment, math.fsum(run.summary["mean_e2el_ms"] for run in runs) / len(runs))


@dataclass(frozen=True)
class Entrant:
    """A policy ready to run in its scenario, and the choice made for it (one line; empty: nothing was left open)."""

    policy: Bound
    scenario: Scenario
    choice: str = ""

    @property
    def label(self) -> str:
        """The policy as the user typed it."""
        return self.policy.label


def resolve(policies: Sequence[Bound], scenario: Scenario, jobs: int | Crew) -> list[Entrant]:
    """Replace every `=auto` by the best value of its grid on the validation seeds, also that of D."""
    entrants = []
    for policy in policies:
        choices = candidates(policy, scenario)
        if len(choices) == 1:
            entrants.append(Entrant(*choices[0]))
            continue
        marks = scores(choices, jobs, f"choosing for {policy.label}")
        if len(set(marks)) == 1 and not policy.autos:  # the policy does not read D: there is no choice to report
            entrants.append(Entrant(policy, scenario))
            continue
        best = max(range(len(choices)), key=lambda row: marks[row].order)
        entrants.append(Entrant(*choices[best], choice=_choice_text(policy, choices[best], marks[best])))
    return entrants


def candidates(policy: Bound, scenario: Scenario) -> list[tuple[Bound, Scenario]]:
    """Every combination of values for what is `auto` in ``policy`` and in the controllers of ``scenario``."""
    grids = policy.autos
    corners = itertools.product(*grids.values())
    points: list[dict[str, Any]] = [dict(zip(grids, corner, strict=True)) for corner in corners]
    filled = [policy.with_params(**point) for point in points]
    return [(bound, variant) for bound in filled for variant in _with_tbt(scenario)]


def _with_tbt(scenario: Scenario) -> list[Scenario]:
    """The scenario under every D of the grid that the controllers' band allows; the scenario itself if D is given."""
    if not scenario.tune_tbt:
        return [scenario]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a D that is too small is replaced by the least one allowed
        grid = sorted({safe_tbt_s(_tbt(scenario, d).config) for d in TBT_GRID_S})
    return [_tbt(scenario, d) for d in grid]


def _tbt(scenario: Scenario, seconds: float) -> Scenario:
    controller = replace(scenario.config.controller, tbt_s=seconds)
    return replace(scenario, config=replace(scenario.config, controller=controller))


def _choice_text(asked: Bound, choice: tuple[Bound, Scenario], score: ValidationScore) -> str:
    policy, scenario = choice
    tbt = f", tbt={1000 * scenario.config.tbt_s:.4g} ms" if scenario.tune_tbt else ""
    met = f"{100 * score.attainment:.1f} % met their SLO"
    found = "no request is scored" if math.isnan(score.attainment) else met
    return f"{asked.label} -> {policy.text}{tbt} ({found} on {VALIDATED})"


@dataclass(frozen=True)
class Capacity:
    """The highest rate (requests/s) at which ``policy`` keeps CAPACITY_ATTAINMENT, with the best parameters there;
    ``scenario`` has that rate and the best D."""

    rate: float
    policy: str
    scenario: Scenario


def capacity(
    policy: Bound, scenario: Scenario, jobs: int | Crew, goal: Goal | None = None, else_give: str = ""
) -> Capacity:
    """Capacity by bracketing and bisection, with common arrivals at every rate, on the validation seeds.

    ``goal``: what a rate has to keep (default: CAPACITY_ATTAINMENT of the arrivals meet their SLO).  ``else_give``: an
    option that makes the capacity unnecessary, for the refusal.

    Raises ``ValueError`` when the SLO is missed even in a nearly empty system, or kept at any rate.
    """
    choices, kept = candidates(policy, scenario), goal or Goal()
    last = [0]  # the choice that was best at the last rate that was kept: the first to try

    def keeps(rate: float) -> bool:
        """Whether any choice keeps the goal at this rate."""
        order = [last[0], *(row for row in range(len(choices)) if row != last[0])]
        for group in (order[:1], order[1:]):
            trials = [(choices[row][0], choices[row][1].at_rate(rate)) for row in group]
            found = scores(trials, jobs, f"capacity of {policy.label}, {rate:.3g} requests/s", kept) if trials else []
            for row, score in sorted(zip(group, found, strict=True), key=lambda pair: pair[1].order, reverse=True):
                if score.attainment >= kept.bar:
                    last[0] = row
                    return True
        return False

    search = RateSearch(scenario.workload.mean_rate, RATE_TOLERANCE)
    run_alone(search, keeps)
    rate = _rate_found(search, policy.label, f", or give {else_give}" if else_give else "")
    bound, best = choices[last[0]]
    return Capacity(rate, bound.text, best.at_rate(rate))


def _rate_found(search: RateSearch, name: str, or_give: str) -> float:
    """The rate that ``search`` found; ``ValueError`` in one line where it has no end."""
    if search.high is None:
        raise ValueError(f"{name} keeps its SLO at any rate, so its capacity is unbounded; tighten --goodput{or_give}.")
    if search.low is None:
        raise ValueError(
            f"{name} misses the SLO of more than {100 * (1 - CAPACITY_ATTAINMENT):.0f} % at any rate, "
            f"so it has no capacity; loosen --goodput{or_give}."
        )
    return search.low


def at_load(scenario: Scenario, jobs: int | Crew) -> tuple[Scenario, Capacity]:
    """The scenario at ``scenario.load`` times the capacity of REFERENCE."""
    assert scenario.load is not None
    try:
        found = capacity(parse(REFERENCE), scenario, jobs, else_give="--rate")
    except ValueError as error:
        raise ValueError(f"--load: {error}") from None
    return scenario.at_rate(scenario.load * found.rate), found
