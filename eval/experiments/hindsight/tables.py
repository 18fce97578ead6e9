"""Misses on short traces, the gap between heuristics and the search, and the share of it that is closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.experiments.benchmark.statistics import LEVEL, RESAMPLES, Estimate
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import interval

BAR = 0.3
"""The announced bar: share of the gap to be closed."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CaseLoad:
    """Missed requests (traces,) in a case at a load: ``rivals``, by heuristic; ``own``, of the challenger; ``found``,
    of the search.  ``rate`` in requests/s."""

    case: str
    load: float
    rate: float
    rivals: Mapping[str, Ints]
    own: Ints
    found: Ints

    @property
    def best(self) -> Ints:
        """The misses of the best heuristic of every trace."""
        return np.min(list(self.rivals.values()), axis=0)


def gaps(groups: Sequence[CaseLoad], rivals: Sequence[Ints]) -> list[tuple[NDArray, NDArray]]:
    """By group, over the traces where the search misses fewer than the rival: the gains of the challenger and of the
    search over the rival, in requests."""
    pairs = []
    for group, rival in zip(groups, rivals, strict=True):
        gap = group.found < rival
        pairs.append(((rival - group.own)[gap].astype(float), (rival - group.found)[gap].astype(float)))
    return [pair for pair in pairs if len(pair[0])]


def share_of_gap(pairs: Sequence[tuple[NDArray, NDArray]]) -> float:
    """The share of the gap that is closed: the gains of the challenger over those of the search."""
    return float(sum(own.sum() for own, _ in pairs) / sum(whole.sum() for _, whole in pairs))


def closed_share(groups: Sequence[CaseLoad], rivals: Sequence[Ints], seed: int) -> Estimate:
    """The share with its bootstrap interval: traces are resampled within groups."""
    pairs, rng = gaps(groups, rivals), np.random.default_rng(seed)
    if not pairs:
        return Estimate(np.nan, np.nan, np.nan, 0)
    found = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        rows = [rng.integers(len(own), size=len(own)) for own, _ in pairs]
        found[i] = share_of_gap([(own[row], whole[row]) for (own, whole), row in zip(pairs, rows, strict=True)])
    low, high = np.quantile(found, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Estimate(share_of_gap(pairs), float(low), float(high), len(pairs))


def fixed_best(groups: Sequence[CaseLoad]) -> str:
    """The heuristic that misses least over all traces of ``groups``."""
    return min(groups[0].rivals, key=lambda name: sum(int(group.rivals[name].sum()) for group in groups))


def by_group(groups: Sequence[CaseLoad], challenger: str, requests: int) -> Table:
    """A row per case and load: the misses of the best heuristics, the challenger and the search."""
    rows = []
    for group in groups:
        name = fixed_best([group])
        row: dict[str, Any] = {"case": group.case, "load": group.load, "rate": group.rate, "which": name}
        for key, values in (("fixed", group.rivals[name]), ("best", group.best), ("own", group.own)):
            row[key] = interval(list(values / requests))
        rows.append(
            row | {"found": interval(list(group.found / requests)), "past": int((group.own < group.found).sum())}
        )
    columns = [
        *(Column("case", "case"), Column("load", "load"), Column("rate", "rate", "req/s", 2)),
        *(Column("which", "best heuristic"), Column("fixed", "its misses", "%", 1, 100.0)),
        *(Column("best", "best of trace", "%", 1, 100.0), Column("own", challenger, "%", 1, 100.0)),
        *(Column("found", "search", "%", 1, 100.0), Column("past", "passed", "in", 0)),
    ]
    note = (
        "Missed requests. best heuristic: the one with fewest misses here; best of trace: for every trace the best of "
        f"all heuristics, in hindsight. passed in: traces where {challenger} misses fewer than the search found."
    )
    return Table("groups", "Misses by case and load", columns, rows, note)


def by_gap(groups: Sequence[CaseLoad], seed: int) -> Table:
    """A row per case and load: the gaps, and the share that is closed."""
    rows = []
    for group in groups:
        row: dict[str, Any] = {"case": group.case, "load": group.load, "traces": len(group.own)}
        for key, rival in (("best", group.best), ("fixed", group.rivals[fixed_best([group])])):
            there = closed_share([group], [rival], seed)
            row |= {f"{key}_gaps": int((group.found < rival).sum()), f"{key}_closed": there.value}
            row |= {f"{key}_low": there.low, f"{key}_high": there.high}
        rows.append(row)
    columns = [Column("case", "case"), Column("load", "load"), Column("traces", "traces", "", 0)]
    for key, title in (("best", "best of trace"), ("fixed", "best heuristic")):
        columns += [
            Column(f"{key}_gaps", title, "gap in", 0),
            Column(f"{key}_closed", "closed", "%", 0, 100.0, signed=True),
            Column(f"{key}_low", "from", "%", 0, 100.0, signed=True),
            Column(f"{key}_high", "to", "%", 0, 100.0, signed=True),
        ]
    return Table("gaps", "Share of the gap that is closed, by case and load", columns, rows)


def bars(groups: Sequence[CaseLoad], challenger: str, requests: int, seed: int) -> Table:
    """The announced bar, against three definitions of the best heuristic."""
    one = fixed_best(groups)
    definitions = {
        "best of every trace, in hindsight": [group.best for group in groups],
        "best of every case and load": [group.rivals[fixed_best([group])] for group in groups],
        f"one for all: {one}": [group.rivals[one] for group in groups],
    }
    rows = []
    for title, rivals in definitions.items():
        there, gap = closed_share(groups, rivals, seed), [g.found < r for g, r in zip(groups, rivals, strict=True)]
        row: dict[str, Any] = {"rival": title, "gaps": int(sum(places.sum() for places in gap))}
        for key, misses in (("theirs", rivals), ("own", [g.own for g in groups]), ("found", [g.found for g in groups])):
            picked = np.concatenate([m[places] for m, places in zip(misses, gap, strict=True)])
            row[key] = float(picked.mean() / requests) if len(picked) else None
        row |= {"closed": there.value, "low": there.low, "high": there.high, "bar": BAR}
        rows.append(row | {"met": "yes" if there.low >= BAR else "NO"})
    columns = [
        *(Column("rival", "against"), Column("gaps", "traces", "with a gap", 0)),
        *(Column("theirs", "missed", "by it, %", 1, 100.0), Column("own", challenger, "%", 1, 100.0)),
        *(Column("found", "search", "%", 1, 100.0), Column("closed", "closed", "%", 1, 100.0, signed=True)),
        *(
            Column("low", "95 %", "from", 1, 100.0, signed=True),
            Column("high", "interval", "to", 1, 100.0, signed=True),
        ),
        *(Column("bar", "bar", "%", 0, 100.0), Column("met", "met by", "all of it")),
    ]
    note = (
        f"Over the traces where the search misses fewer than the one named. closed: what {challenger} misses fewer "
        "than it, over what the search misses fewer. Intervals: bootstrap over traces within case and load."
    )
    return Table("bars", "The gap to a search in hindsight, and how much of it is closed", columns, rows, note)


def draw_misses(groups: Sequence[CaseLoad], challenger: str, requests: int, heading: str) -> Any:
    """Misses over load, a panel per case."""
    panels = []
    for case in dict.fromkeys(group.case for group in groups):
        here = [group for group in groups if group.case == case]
        members = {
            "best heuristic": [group.rivals[fixed_best([group])] for group in here],
            "best heuristic of every trace": [group.best for group in here],
            challenger: [group.own for group in here],
            "search in hindsight": [group.found for group in here],
        }
        drawn = [
            ChartLine(name, [g.load for g in here], [interval(list(row / requests)) for row in rows], colour)
            for (name, rows), colour in zip(members.items(), (0, 7, 1, 2), strict=True)
        ]
        panels.append(Panel(case, "load", "missed, %", drawn, factor=100.0, bounded=True))
    return draw_lines("Misses on short traces", heading, panels, columns=2, height=2.8)
