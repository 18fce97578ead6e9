"""How much load each policy can serve: the highest rate within an SLO, the servers that a load needs, and the curves
between (capacity.study)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.options import add_price
from llmsched.eval.cli.readers import number
from llmsched.eval.experiments.capacity.study import (
    CapacityStudy,
    capacities,
    capacity_table,
    place_of,
    rate_curve,
    rate_of,
    servers_table,
    tune_for_capacity,
)
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import at_load
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.variants import with_targets
from llmsched.policies import parse_list

SHARES = (0.99, 0.95, 0.90)
POLICIES = "static:batch=auto,dynamic,multibin,longest-queue"
MULTIPLES = (0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2, 1.4, 1.6, 1.9, 2.3)
SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("capacity").add_argument
    share, multiple, scale = (list_of(number(0, most, above=True)) for most in (1, 1e3, 1e6))
    best = "=auto: the value with the highest capacity"
    add("--policies", default=POLICIES, metavar="LIST", help=f"default {POLICIES}; {best}")
    add("--shares", type=share, default=SHARES, metavar="X,X,...", help="shares of arrivals that are to meet the SLO")
    add("--multiples", type=multiple, default=MULTIPLES, metavar="X,...", help="rates of the curve, times the own rate")
    add_price(parser)
    add("--scales", type=scale, default=SCALES, metavar="X,...", help="targets of the curve, times the own ones")


def find(session: Session) -> Findings:
    """Curves, capacities, servers."""
    options = session.options
    scenario = scenario_from(options)
    if scenario.load is not None:
        scenario, _ = at_load(scenario, session.crew)
    entrants = tune_for_capacity(parse_list(options.policies), scenario, session)
    study = CapacityStudy(session, entrants, scenario)
    names = [entrant.label for entrant in entrants]

    places = sorted({place_of(multiple * scenario.workload.mean_rate) for multiple in options.multiples})
    curve = rate_curve(study, places)
    found = capacities(study, curve, places)
    tables = [capacity_table(study, found)]
    if len(set(scenario.config.servers)) == 1:
        tables.append(servers_table(study))
    else:
        session.notes.append("Servers needed: not searched, because the servers differ.")
    by_rate = [[interval(curve[row, place]) for place in places] for row in range(len(names))]
    rates = [rate_of(place) for place in places]
    tables.append(
        _curve_table("by_rate", "SLO attainment by rate", Column("x", "rate", "req/s", 3), rates, names, by_rate)
    )

    asked = [(entrant, with_targets(entrant.scenario, scale)) for entrant in entrants for scale in options.scales]
    means, n = study.means(asked, "attainment by target", "targets"), len(options.scales)
    by_scale = [means[row * n : (row + 1) * n] for row in range(len(names))]
    title = f"SLO attainment by how tight the targets are (1 = {scenario.goal})"
    scales = list(options.scales)
    tables.append(_curve_table("by_scale", title, Column("x", "targets", "times", 2), scales, names, by_scale))

    def draw(x, series, label, mark):
        shown = [ChartLine(name, x, values, row) for row, (name, values) in enumerate(zip(names, series, strict=True))]
        levels = tuple(100 * share for share in options.shares)
        return Panel("", label, "SLO met, %", shown, log_x=True, factor=100.0, share=True, at_x=mark, at_y=levels)

    drawings: dict[str, Callable] = {
        "attainment": lambda: draw_lines(
            "How much load the policies can serve",
            scenario.title,
            [
                draw(rates, by_rate, "arrival rate, requests/s", None),
                draw(scales, by_scale, "latency targets, times the scenario's", 1.0),
            ],
            height=4.2,
        )
    }
    cells = [Cell(e.label, e.policy, e.scenario, session.seeds[0]) for e in entrants]
    about = {"scenario": scenario.describe()}
    return Findings(heading(scenario, session.seeds), tables, drawings, about, timeline=cells)


def _curve_table(
    name: str,
    title: str,
    x: Column,
    places: Sequence[float],
    names: Sequence[str],
    curves: Sequence[Sequence[Interval]],
) -> Table:
    rows = [{"x": place} | {n: c[i] for n, c in zip(names, curves, strict=True)} for i, place in enumerate(places)]
    return Table(name, title, [x, *(Column(n, n, "%", 1, 100.0) for n in names)], rows)


EXPERIMENT = Experiment(
    "capacity.py",
    "How much load each policy serves within the SLO, and how many servers a load needs.",
    add_options,
    find,
)
