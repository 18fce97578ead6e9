"""The curves of `capacity`: attainment by arrival rate, up to the knee, and by how tight the targets are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmsched.eval.experiments.capacity.study import CapacityStudy, place_of, rate_curve, rate_of
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.scenarios.variants import with_targets

MULTIPLES = (0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2, 1.4, 1.6, 1.9, 2.3)
"""Rates of the curve, times the scenario's own."""

KNEE_STEP, MOST_STEPS = 1.35, 12
"""Ratio of the rates that are added to a curve that has not fallen, and how many at most."""

ByRate = dict[tuple[int, int], list[float]]
"""Attainment by (policy, place of the rate), a value per seed."""


@dataclass(frozen=True)
class Curves:
    """Attainment at the places ``x``: an interval for each place, and a curve for each policy."""

    x: Sequence[float]
    y: Sequence[Sequence[Interval]]


def sweep(study: CapacityStudy, multiples: Sequence[float] | None) -> tuple[list[int], ByRate]:
    """(places, attainment) at ``multiples`` of the own rate; without them, at the usual ones and on to the knee."""
    own = study.scenario.workload.mean_rate
    places = sorted({place_of(multiple * own) for multiple in multiples or MULTIPLES})
    curve = rate_curve(study, places)
    if not multiples:
        places = reach_the_knee(study, curve, places)
    return places, curve


def reach_the_knee(study: CapacityStudy, curve: ByRate, places: list[int]) -> list[int]:
    """Places of the curve, more of them until every policy keeps the goals at the lowest and none at the highest;
    ``curve`` grows with them."""
    bars, rows, step = study.session.options.shares, range(len(study.entrants)), place_of(KNEE_STEP)
    for _ in range(MOST_STEPS):
        top = [interval(curve[row, places[-1]]).mean for row in rows]
        low = [interval(curve[row, places[0]]).mean for row in rows]
        more = [places[-1] + step] if max(top) > min(bars) else []
        more += [places[0] - step] if min(low) < max(bars) else []
        if not more:
            break
        curve |= rate_curve(study, more)
        places = sorted([*places, *more])
    return places


def curves_by_rate(study: CapacityStudy, places: Sequence[int], curve: ByRate) -> Curves:
    """The curves over the arrival rate, requests/s."""
    found = [[interval(curve[row, place]) for place in places] for row in range(len(study.entrants))]
    return Curves([rate_of(place) for place in places], found)


def curves_by_targets(study: CapacityStudy, scales: Sequence[float]) -> Curves:
    """The curves over the latency targets, times the scenario's own."""
    asked = [(entrant, with_targets(entrant.scenario, scale)) for entrant in study.entrants for scale in scales]
    means, n = study.means(asked, "attainment by target", "targets"), len(scales)
    return Curves(scales, [means[row * n : (row + 1) * n] for row in range(len(study.entrants))])


def rate_table(study: CapacityStudy, curves: Curves) -> Table:
    """A row for each arrival rate."""
    title = f"{study.measure.title} by rate".replace(", 100 and more: kept by", " by")
    return _table(study, "by_rate", title, Column("x", "rate", "req/s", 3), curves)


def target_table(study: CapacityStudy, curves: Curves) -> Table:
    """A row for each scale of the targets."""
    title = f"SLO attainment by how tight the targets are (1 = {study.scenario.goal})"
    return _table(study, "by_scale", title, Column("x", "targets", "times", 2), curves)


def _table(study: CapacityStudy, name: str, title: str, x: Column, curves: Curves) -> Table:
    names = [entrant.label for entrant in study.entrants]
    rows = [
        {"x": place} | {name: line[i] for name, line in zip(names, curves.y, strict=True)}
        for i, place in enumerate(curves.x)
    ]
    return Table(name, title, [x, *(Column(name, name, "%", 1, 100.0) for name in names)], rows)


def draw(study: CapacityStudy, by_rate: Curves, by_targets: Curves) -> Any:
    """The figure: a panel for each of the two that has places."""
    is_share = not study.measure.targets

    def panel(curves: Curves, label: str, mark: float | None) -> Panel:
        """One of the two."""
        named = enumerate(zip(study.entrants, curves.y, strict=True))
        lines = [ChartLine(entrant.label, curves.x, values, row) for row, (entrant, values) in named]
        levels = tuple(100 * share for share in study.session.options.shares)
        y = "SLO met, %" if is_share else "target over percentile, %"
        return Panel("", label, y, lines, log_x=True, factor=100.0, share=is_share, at_x=mark, at_y=levels)

    panels = [panel(by_rate, "arrival rate, requests/s", None)]
    if by_targets.x:
        panels.append(panel(by_targets, "latency targets, times the scenario's", 1.0))
    return draw_lines("How much load the policies can serve", study.scenario.title, panels, height=4.2)
