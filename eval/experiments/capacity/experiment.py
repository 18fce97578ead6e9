"""How much load each policy can serve: the highest rate within an SLO, the servers that a load needs, and the curves
between (capacity.study)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.options import add_price
from llmsched.eval.cli.readers import TARGETS, number
from llmsched.eval.experiments.capacity.caps import with_best_caps
from llmsched.eval.experiments.capacity.measure import Measure, read_percentile
from llmsched.eval.experiments.capacity.sentences import rates_sentence, servers_sentence
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
from llmsched.eval.runs.tune import Goal, at_load
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.variants import with_targets

SHARES = (0.99, 0.95, 0.90)
POLICIES = "static:batch=auto,dynamic,multibin,longest-queue"
MULTIPLES = (0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2, 1.4, 1.6, 1.9, 2.3)
SHARE = 0.95
"""The share that the answer is about, where it is one of those asked for."""

KNEE_STEP, MOST_STEPS = 1.35, 12
"""Ratio of the rates that are added to a curve that has not fallen, and how many at most."""

SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("capacity").add_argument
    share, multiple, scale = (list_of(number(0, most, above=True)) for most in (1, 1e3, 1e6))
    best = "=auto: the value with the highest capacity"
    add("--policies", default=POLICIES, metavar="LIST", help=f"default {POLICIES}; {best}")
    add("--shares", type=share, default=SHARES, metavar="X,X,...", help="shares of arrivals that are to meet the SLO")
    about = "percentiles to keep in place of shares, all of them: p95:ttft:500 p99:e2el:20000 (ms)"
    add("--percentiles", type=word_of(read_percentile), nargs="+", metavar="P:KEY:MS", help=about)
    about = "rates of the curve, times the own rate (default: 0.3 to 2.3, and on until the curves have fallen)"
    add("--multiples", type=multiple, metavar="X,...", help=about)
    about = "try these caps too: running sets or batches of 32 to 512, and in the engine continuous budgets"
    add("--search-caps", action="store_true", help=about)
    add_price(parser)
    add("--scales", type=scale, default=SCALES, metavar="X,...", help="targets of the curve, times the own ones")


def find(session: Session) -> Findings:
    """Curves, capacities, servers."""
    options = session.options
    measure = measure_of(options)
    scenario = scenario_from(options)
    if scenario.load is not None:
        scenario, _ = at_load(scenario, session.crew)
    asked_share = SHARE if SHARE in options.shares else options.shares[0]
    goal = Goal(measure.score, asked_share)
    entrants = tune_for_capacity(session.policies(options.policies), scenario, session, goal)
    if options.search_caps:
        kept = measure.words(asked_share, scenario.goal)
        entrants = [with_best_caps(entrant, session, goal, kept) for entrant in entrants]
    study = CapacityStudy(session, entrants, scenario, measure=measure)
    names = [entrant.label for entrant in entrants]

    multiples = options.multiples or MULTIPLES
    places = sorted({place_of(multiple * scenario.workload.mean_rate) for multiple in multiples})
    curve = rate_curve(study, places)
    if not options.multiples:
        places = reach_the_knee(study, curve, places)
    found = capacities(study, curve, places)
    tables = [capacity_table(study, found)]
    answer = []
    servers = f"{len(scenario.config.servers)} server{'s' * (len(scenario.config.servers) > 1)} ({scenario.gpus} GPUs)"
    if len(set(scenario.config.servers)) == 1:
        tables.append(servers_table(study))
        load = f"{scenario.workload.mean_rate:.4g} requests/s"
        kept = measure.words(asked_share, scenario.goal)
        answer = [servers_sentence(tables[1], asked_share, load, kept, options.price)]
    else:
        session.notes.append("Servers needed: not searched, because the servers differ.")
    own = [(str(row["policy"]), row[f"rate_{asked_share:g}"].mean) for row in tables[0].rows]  # type: ignore[union-attr]
    answer.append(rates_sentence(own, servers, measure.words(asked_share, scenario.goal)))
    by_rate = [[interval(curve[row, place]) for place in places] for row in range(len(names))]
    curve_rates = [rate_of(place) for place in places]
    title, at = f"{measure.title} by rate".replace(", 100 and more: kept by", " by"), Column("x", "rate", "req/s", 3)
    tables.append(_curve_table("by_rate", title, at, curve_rates, names, by_rate))

    if measure.targets:
        scales: list[float] = []
    else:
        scales = list(options.scales)
    asked = [(entrant, with_targets(entrant.scenario, scale)) for entrant in entrants for scale in scales]
    means, n = study.means(asked, "attainment by target", "targets"), len(scales)
    by_scale = [means[row * n : (row + 1) * n] for row in range(len(names))]
    title = f"SLO attainment by how tight the targets are (1 = {scenario.goal})"
    if scales:
        tables.append(_curve_table("by_scale", title, Column("x", "targets", "times", 2), scales, names, by_scale))

    def draw(x, series, label, mark):
        shown = [ChartLine(name, x, values, row) for row, (name, values) in enumerate(zip(names, series, strict=True))]
        levels = tuple(100 * share for share in options.shares)
        y = "target over percentile, %" if measure.targets else "SLO met, %"
        is_share = not measure.targets
        return Panel("", label, y, shown, log_x=True, factor=100.0, share=is_share, at_x=mark, at_y=levels)

    drawings: dict[str, Callable] = {
        "attainment": lambda: draw_lines(
            "How much load the policies can serve",
            scenario.title,
            [
                draw(curve_rates, by_rate, "arrival rate, requests/s", None),
                *([draw(scales, by_scale, "latency targets, times the scenario's", 1.0)] if scales else []),
            ],
            height=4.2,
        )
    }
    cells = [Cell(e.label, e.policy, e.scenario, session.seeds[0]) for e in entrants]
    about = {"answer": answer, "scenario": scenario.describe()}
    return Findings(heading(scenario, session.seeds), tables, drawings, about, timeline=cells, answer=answer)


def measure_of(options: argparse.Namespace) -> Measure:
    """What is kept; percentile targets are the targets of the requests too, where no others are given."""
    if not options.percentiles:
        return Measure()
    options.shares = (1.0,)
    if options.goodput is None and options.slo_classes is None:
        keys = dict.fromkeys(target.key for target in options.percentiles)
        least = {key: min(target.ms for target in options.percentiles if target.key == key) for key in keys}
        options.goodput = [(key, TARGETS[key].from_flag(ms)) for key, ms in least.items()]
    return Measure(tuple(options.percentiles))


def word_of(reader: Callable[[str], Any]) -> Callable[[str], Any]:
    """``reader`` for argparse, which shows the text of an ArgumentTypeError only."""

    def read(text: str) -> Any:
        try:
            return reader(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def reach_the_knee(study: CapacityStudy, curve: dict[tuple[int, int], list[float]], places: list[int]) -> list[int]:
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
