"""Capacity case by case: the highest rate at which the challenger keeps its target, against the papers' three."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmsched.eval.cli.frame import Session
from llmsched.eval.experiments.benchmark.statistics import MISSES_SAVED, Floats, Pair, estimate
from llmsched.eval.experiments.benchmark.tables import PAPERS
from llmsched.eval.experiments.capacity.study import CapacityStudy, capacities, tune_for_capacity
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.tune import CAPACITY_ATTAINMENT, VALIDATED
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound, parse_list

RUNS_OF_A_SEARCH = 9
"""About the number of runs of a search for one policy under one seed."""


@dataclass(frozen=True)
class CaseCapacity:
    """Highest rates (requests/s) in a case: of the challenger (networks, seeds), and of the papers' schedulers (seeds,)
    by name, with their best ``parameters``."""

    case: str
    own: Floats
    papers: Mapping[str, Floats]
    parameters: Mapping[str, str]

    @property
    def best(self) -> str:
        """The scheduler of the papers with the highest capacity on the scored seeds."""
        return max(self.papers, key=lambda name: float(self.papers[name].mean()))


def case_capacity(case: str, scenario: Scenario, networks: Sequence[Bound], session: Session) -> CaseCapacity:
    """Search the capacity of every policy under every seed, on the same arrivals, from the rate of ``scenario`` on.

    The free parameters of the papers' schedulers are those with the highest capacity on the validation seeds.
    """
    own = replace(session, notes=[])  # the choices stand in the table
    entrants = tune_for_capacity([*networks, *parse_list(",".join(PAPERS))], scenario, own)
    study = CapacityStudy(own, entrants, scenario, {"case": case})
    found = capacities(study, {}, [])
    share = CAPACITY_ATTAINMENT
    rates = np.array([[found[row, share, i] for i in range(len(session.seeds))] for row in range(len(entrants))])
    papers = entrants[len(networks) :]
    return CaseCapacity(
        case,
        rates[: len(networks)],
        {e.label: rates[len(networks) + place] for place, e in enumerate(papers)},
        {e.label: e.policy.text for e in papers},
    )


def capacity_table(found: Sequence[CaseCapacity], challenger: str, rng: np.random.Generator) -> Table:
    """A row per case: the rates, and the ratio of the challenger to the best of the three."""
    rows: list[dict[str, Any]] = []
    for one in found:
        best = one.papers[one.best]
        ratios = np.divide(one.own, best, out=np.full(one.own.shape, math.nan), where=best > 0)
        row: dict[str, Any] = {"case": one.case, "own": interval(list(one.own.mean(axis=0)))}
        row |= {name.split(":")[0]: interval(list(rates)) for name, rates in one.papers.items()}
        row |= {"best": one.parameters[one.best], "ratio": interval(list(ratios.mean(axis=0)))}
        if len(one.own) > 1:
            row |= {"least": float(ratios.mean(axis=1).min()), "most": float(ratios.mean(axis=1).max())}
        rows.append(row)
    columns = [Column("case", "case"), Column("own", challenger, "req/s", 3)]
    columns += [Column(name.split(":")[0], name, "req/s", 3) for name in PAPERS]
    columns += [Column("best", "best of three"), Column("ratio", "ratio", "to the best", 3)]
    if any("least" in row for row in rows):
        columns += [Column("least", "least of", "networks", 3), Column("most", "most of", "networks", 3)]
    pairs: list[Pair] = [(one.own, one.papers[one.best]) for one in found]
    less = estimate(pairs, MISSES_SAVED, rng)  # 1 - own / best
    more, low, high = (round(-100.0 * part, 1) + 0.0 for part in (less.value, less.high, less.low))
    note = (
        f"Highest rate at which {100 * CAPACITY_ATTAINMENT:g} % of the scored requests are served in time, searched to "
        f"1 % under every seed by itself, on the same arrivals; parameters: the best for that on {VALIDATED}. ratio: "
        f"paired by seed. IQM over cases: {more:+.1f} % (95 % interval {low:+.1f} to {high:+.1f} %, bootstrap)."
    )
    return Table("capacity", "Capacity", columns, rows, note)
