"""What a capacity is measured by: the share of requests within their targets, or percentiles of latencies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmsched.eval.cli.readers import TARGETS

PERCENTILES = {"p50": "median", "p95": "p95", "p99": "p99"}
"""Percentiles that runs keep, and their prefix in a summary."""


@dataclass(frozen=True)
class PercentileTarget:
    """``p95:ttft:500``: the percentile of a latency that is to be at most ``ms``."""

    percentile: str
    key: str
    ms: float

    @property
    def text(self) -> str:
        """``p95 ttft <= 500 ms``."""
        return f"{self.percentile} {self.key} <= {self.ms:g} ms"

    @property
    def lost(self) -> float:
        """Share of requests that may never end: their latency is beyond any target."""
        return 1.0 - float(self.percentile[1:]) / 100.0


def read_percentile(text: str) -> PercentileTarget:
    """The target that a word of ``--percentiles`` states; ``ValueError`` says what is allowed."""
    parts = text.split(":")
    allowed = f"give PERCENTILE:KEY:MS, as p95:ttft:500 ({', '.join(PERCENTILES)}; {', '.join(TARGETS)})"
    if len(parts) != 3 or parts[0] not in PERCENTILES or parts[1] not in TARGETS:
        raise ValueError(f"{text!r} is not allowed: {allowed}")
    try:
        ms = float(parts[2])
    except ValueError:
        ms = math.nan
    if not 0 < ms < 1e12:
        raise ValueError(f"{text!r} is not allowed: {allowed}")
    return PercentileTarget(parts[0], parts[1], ms)


def in_every_class(summary: Mapping[str, Any]) -> float:
    """Share of the arrivals that meet their SLO; with several SLO classes that of the class which gets least."""
    shares = [entry["slo_attainment"] for entry in summary.get("per_class", ()) if entry["submitted"]]
    return float(min(shares, default=summary["slo_attainment"]))


@dataclass(frozen=True)
class Measure:
    """How runs are scored: a run keeps a goal when its score reaches the goal's bar.

    Without ``targets`` the score is the SLO attainment (of several SLO classes that of the class which gets least) and
    a bar is a share of the requests; with them it is the least ratio of a target to its percentile, and the bar is 1.
    """

    targets: Sequence[PercentileTarget] = ()

    def score(self, summary: Mapping[str, Any]) -> float:
        """The score of a run."""
        if not self.targets:
            return in_every_class(summary)
        return min(self._ratio(target, summary) for target in self.targets)

    def _ratio(self, target: PercentileTarget, summary: Mapping[str, Any]) -> float:
        lost = 1.0 - summary["completed"] / summary["submitted"] if summary["submitted"] else 0.0
        found = float(summary[f"{PERCENTILES[target.percentile]}_{target.key}_ms"])
        if lost > target.lost or not math.isfinite(found):
            return 0.0
        return min(target.ms / found, 1e6) if found > 0 else 1e6

    @property
    def title(self) -> str:
        """Of curves."""
        return "Target over percentile, 100 and more: kept" if self.targets else "SLO attainment"

    def column(self, bar: float) -> str:
        """The head of a column of capacities."""
        return "targets kept" if self.targets else f"{100 * bar:g} % met"

    def words(self, bar: float, goal: str) -> str:
        """What is kept, in a sentence; ``goal``: the targets of the scenario."""
        if self.targets:
            return f"with {', '.join(target.text for target in self.targets)}"
        return f"with {100 * bar:g} % of all requests within {goal}"

    @property
    def unit(self) -> str:
        """Of the bars, in the column of what is to be kept."""
        return "% of target" if self.targets else "%"
