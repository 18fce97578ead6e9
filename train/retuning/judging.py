"""Which weights are kept: the new ones only where the interval over held-out parts says that they miss fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound
from llmsched.train.retuning.parts import Part

GENERIC, RETUNED = "generic", "retuned"
LABELS = (GENERIC, RETUNED)
DETAILS = ("mean_e2el_ms", "p99_e2el_ms")


def held_out_cells(scenarios: Sequence[Scenario], policies: Sequence[Bound], seeds: Sequence[int]) -> list[Cell]:
    """The runs that judge: part by part, seed by seed, with both weights on the same arrivals."""
    return [
        Cell(label, policy, scenario, seed)
        for scenario in scenarios
        for seed in seeds
        for label, policy in zip(LABELS, policies, strict=True)
    ]


@dataclass(frozen=True)
class Verdict:
    """Shares of missed requests (parts, 2) with the generic and with the new weights, means over seeds.

    ``details`` (2, DETAILS): means over all runs, in ms.
    """

    missed: NDArray[np.float64]
    details: NDArray[np.float64]

    @property
    def difference(self) -> Interval:
        """New minus generic, with its interval over parts; below 0: the new weights miss fewer."""
        return interval(list(self.missed[:, 1] - self.missed[:, 0]))

    @property
    def gain(self) -> Interval:
        """Share of the generic weights' misses that the new ones avoid; an undefined mean where nothing is missed."""
        generic = float(self.missed[:, 0].mean())
        return self.difference.times(-1.0 / generic) if generic > 0 else Interval(float("nan"), None)

    @property
    def numbers(self) -> dict[str, Any]:
        """For JSON: shares missed (generic, new), difference and gain (where defined) with half widths of intervals."""
        pairs = {"difference": self.difference} | ({"gain": self.gain} if self.missed[:, 0].any() else {})
        shares = {"missed": self.missed.mean(axis=0).tolist()}
        return shares | {name: {"mean": found.mean, "half": found.half} for name, found in pairs.items()}

    @property
    def better(self) -> bool:
        """Whether the new weights are kept: fewer misses, and the interval of the difference excludes 0."""
        return self.difference.mean < 0 and self.difference.excludes_zero


def verdict(outcomes: Sequence[Outcome], parts: int) -> Verdict:
    """The verdict of the runs of `held_out_cells`, in their order."""
    missed = np.array([1.0 - run.summary["slo_attainment"] for run in outcomes]).reshape(parts, -1, 2)
    details = np.array([[run.summary[key] for key in DETAILS] for run in outcomes]).reshape(-1, 2, len(DETAILS))
    return Verdict(missed.mean(axis=1), details.mean(axis=0))


def both_table(found: Verdict) -> Table:
    """Both weights on all held-out parts."""
    columns = [
        Column("weights", "weights"),
        Column("missed", "missed the SLO", "%", 2, 100.0, best=-1),
        Column("difference", "difference", "points", 2, 100.0, signed=True),
        Column("gain", "fewer misses", "%", 1, 100.0, signed=True),
        Column("mean_e2el_ms", "mean E2E", "ms", 0, best=-1),
        Column("p99_e2el_ms", "p99 E2E", "ms", 0, best=-1),
    ]
    rows = []
    for place, label in enumerate(LABELS):
        row: dict[str, Any] = {"weights": label, "missed": interval(list(found.missed[:, place]))}
        compared = {"difference": found.difference, "gain": found.gain} if label == RETUNED else {}
        rows.append({**row, **compared, **dict(zip(DETAILS, found.details[place].tolist(), strict=True))})
    note = "± 95 % interval (Student t over the held-out parts); the difference is paired: same arrivals"
    return Table("held_out", "On parts that the search has not seen", columns, rows, note)


def parts_table(found: Verdict, parts: Sequence[Part]) -> Table:
    """The misses of every held-out part."""
    columns = [
        Column("part", "held-out part"),
        *(Column(label, label, "% missed", 2, 100.0) for label in LABELS),
        Column("difference", "difference", "points", 2, 100.0, signed=True),
    ]
    rows: list[dict[str, Any]] = [
        {"part": part.name, GENERIC: float(a), RETUNED: float(b), "difference": float(b - a)}
        for part, (a, b) in zip(parts, found.missed, strict=True)
    ]
    return Table("parts", "Part by part", columns, rows)
