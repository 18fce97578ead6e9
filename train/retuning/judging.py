"""Which weights are kept: the new ones only where the interval over held-out parts says that they miss fewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import CONFIDENCE, Interval, interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound
from llmsched.train.retuning.parts import Part

GENERIC, FACTORS, RETUNED = "generic", "factors", "retuned"
"""The start; its weights with other factors of the overdue queue; searched weights with these factors."""

DETAILS = ("mean_e2el_ms", "p99_e2el_ms")


def held_out_cells(scenarios: Sequence[Scenario], policies: Mapping[str, Bound], seeds: Sequence[int]) -> list[Cell]:
    """The runs that judge: part by part, seed by seed, all ``policies`` by label on the same arrivals."""
    return [
        Cell(label, policy, scenario, seed)
        for scenario in scenarios
        for seed in seeds
        for label, policy in policies.items()
    ]


@dataclass(frozen=True)
class Verdict:
    """Shares of missed requests (parts, L) of the L ``labels``, the generic one first, means over seeds.

    ``details`` (L, DETAILS): means over all runs, in ms.
    """

    labels: Sequence[str]
    missed: NDArray[np.float64]
    details: NDArray[np.float64]

    @property
    def confidence(self) -> float:
        """Of the interval of every candidate: of one 95 %, of two 97.5 %, so that both together err as rarely."""
        return 1.0 - (1.0 - CONFIDENCE) / (len(self.labels) - 1)

    def difference(self, place: int) -> Interval:
        """Candidate ``place`` (from 1) minus generic, with its interval over parts; below 0: it misses fewer."""
        return interval(list(self.missed[:, place] - self.missed[:, 0]), self.confidence)

    def gain(self, place: int) -> Interval:
        """Share of the generic misses that a candidate avoids; an undefined mean where nothing is missed."""
        generic = float(self.missed[:, 0].mean())
        return self.difference(place).times(-1.0 / generic) if generic > 0 else Interval(float("nan"), None)

    @property
    def kept(self) -> int | None:
        """The candidate that misses fewest of those of which the interval excludes 0; none: the generic is kept."""
        surely = [p for p in range(1, len(self.labels)) if self.difference(p).mean < 0]
        surely = [p for p in surely if self.difference(p).excludes_zero]
        return min(surely, key=lambda p: self.difference(p).mean, default=None)

    @property
    def shown(self) -> int:
        """The candidate that is kept, or else the one that misses fewest."""
        return self.kept or min(range(1, len(self.labels)), key=lambda p: self.difference(p).mean)

    @property
    def numbers(self) -> dict[str, Any]:
        """For JSON, of the candidate that is shown: label, shares missed (generic, its own), difference and gain
        (where defined) with half widths of intervals."""
        place = self.shown
        pairs = {"difference": self.difference(place)} | ({"gain": self.gain(place)} if self.missed[:, 0].any() else {})
        shares = {"judged": self.labels[place], "missed": self.missed.mean(axis=0)[[0, place]].tolist()}
        return shares | {name: {"mean": found.mean, "half": found.half} for name, found in pairs.items()}


def verdict(labels: Sequence[str], outcomes: Sequence[Outcome], parts: int) -> Verdict:
    """The verdict of the runs of `held_out_cells`, in their order."""
    missed = np.array([1.0 - run.summary["slo_attainment"] for run in outcomes]).reshape(parts, -1, len(labels))
    details = np.array([[run.summary[key] for key in DETAILS] for run in outcomes])
    return Verdict(labels, missed.mean(axis=1), details.reshape(-1, len(labels), len(DETAILS)).mean(axis=0))


def all_table(found: Verdict) -> Table:
    """Everything that was judged, on all held-out parts."""
    columns = [
        Column("weights", "judged"),
        Column("missed", "missed the SLO", "%", 2, 100.0, best=-1),
        Column("difference", "difference", "points", 2, 100.0, signed=True),
        Column("gain", "fewer misses", "%", 1, 100.0, signed=True),
        Column("mean_e2el_ms", "mean E2E", "ms", 0, best=-1),
        Column("p99_e2el_ms", "p99 E2E", "ms", 0, best=-1),
    ]
    rows = []
    for place, label in enumerate(found.labels):
        row: dict[str, Any] = {"weights": label, "missed": interval(list(found.missed[:, place]))}
        compared = {"difference": found.difference(place), "gain": found.gain(place)} if place else {}
        rows.append({**row, **compared, **dict(zip(DETAILS, found.details[place].tolist(), strict=True))})
    note = (
        f"± interval (Student t over the held-out parts): of misses 95 %, of differences {100 * found.confidence:g} %; "
        "the difference is paired: same arrivals"
    )
    return Table("held_out", "On parts that the search has not seen", columns, rows, note)


def parts_table(found: Verdict, parts: Sequence[Part]) -> Table:
    """The misses of every held-out part."""
    columns = [
        Column("part", "held-out part"),
        *(Column(label, label, "% missed", 2, 100.0) for label in found.labels),
        Column("difference", f"{found.labels[found.shown]} - generic", "points", 2, 100.0, signed=True),
    ]
    rows: list[dict[str, Any]] = [
        {
            "part": part.name,
            **dict(zip(found.labels, missed.tolist(), strict=True)),
            "difference": float(missed[found.shown] - missed[0]),
        }
        for part, missed in zip(parts, found.missed, strict=True)
    ]
    return Table("parts", "Part by part", columns, rows)
