"""How much load each policy can serve: the highest rate within an SLO, the servers that a load needs (capacity.study),
and the curves (capacity.curves)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.options import add_price
from llmsched.eval.cli.readers import TARGETS, number
from llmsched.eval.experiments.capacity.caps import with_best_caps
from llmsched.eval.experiments.capacity.curves import (
    curves_by_rate,
    curves_by_targets,
    draw,
    rate_table,
    sweep,
    target_table,
)
from llmsched.eval.experiments.capacity.measure import Measure, read_percentile
from llmsched.eval.experiments.capacity.sentences import rates_sentence, servers_sentence
from llmsched.eval.experiments.capacity.study import (
    CapacityStudy,
    capacities,
    capacity_table,
    servers_table,
    tune_for_capacity,
)
from llmsched.eval.report.tables import Table
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import Goal, at_load
from llmsched.eval.scenarios.from_options import scenario_from

SHARES = (0.99, 0.95, 0.90)
POLICIES = "static:batch=auto,dynamic,multibin,longest-queue"
SHARE = 0.95
"""The share that the answer is about, where it is one of those asked for."""

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
    places, curve = sweep(study, options.multiples)
    found = capacities(study, curve, places)
    tables = [capacity_table(study, found)]
    answer = answers(study, tables, asked_share)
    by_rate = curves_by_rate(study, places, curve)
    tables.append(rate_table(study, by_rate))
    by_targets = curves_by_targets(study, () if measure.targets else options.scales)
    if by_targets.x:
        tables.append(target_table(study, by_targets))
    drawings: dict[str, Callable] = {"attainment": lambda: draw(study, by_rate, by_targets)}
    cells = [Cell(e.label, e.policy, e.scenario, session.seeds[0]) for e in entrants]
    about = {"answer": answer, "scenario": scenario.describe()}
    return Findings(heading(scenario, session.seeds), tables, drawings, about, timeline=cells, answer=answer)


def answers(study: CapacityStudy, tables: list[Table], asked_share: float) -> list[str]:
    """The sentences that answer; where the servers are alike, the table of the servers needed is appended."""
    scenario, session = study.scenario, study.session
    alike, answer = len(set(scenario.config.servers)) == 1, []
    kept = study.measure.words(asked_share, scenario.goal)
    if alike:
        tables.append(servers_table(study))
        load = f"{scenario.workload.mean_rate:.4g} requests/s"
        answer.append(servers_sentence(tables[1], asked_share, load, kept, session.options.price))
    else:
        session.notes.append("Servers needed: not searched, because the servers differ.")
    count = len(scenario.config.servers)
    servers = f"{count} server{'s' * (count > 1)} ({scenario.gpus} GPUs)"
    own = [(str(row["policy"]), row[f"rate_{asked_share:g}"].mean) for row in tables[0].rows]  # type: ignore[union-attr]
    answer.append(rates_sentence(own, servers, kept))
    return answer


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


EXPERIMENT = Experiment(
    "capacity.py",
    "How much load each policy serves within the SLO, and how many servers a load needs.",
    add_options,
    find,
)
