"""A search in hindsight on short traces, against the schedulers.

The search knows all arrivals and true lengths, so no scheduler can be expected to reach it.  The share of the gap
between the best heuristic and the search that a challenger closes says how much is possible without that knowledge.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.best_possible.plan_store import PlanSearch, search_plans
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, run_options_parser
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.progress import LongRun
from llmsched.eval.cli.readers import choice, number
from llmsched.eval.experiments.hindsight.tables import CaseLoad, Ints, bars, by_gap, by_group, draw_misses
from llmsched.eval.report.text import fold
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import REFERENCE, capacity
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import OF_2023, scenario_of
from llmsched.policies import Bound, parse, parse_list
from llmsched.policies.selection import label_notes

HEURISTICS = (
    "static:batch=8,static:batch=16,static:batch=32,dynamic,multibin,multibin:select=oldest,multibin:select=longest,"
    "multibin-fixed:batch=8,timeout:batch=16:wait=1000,adaptive-memory,window,priority,longest-queue,weighted-queue,sjf,"
    "sjf:batch=8,sjf:batch=16,sjf:batch=32,sjf:batch=48,least-slack,aimd"
)
"""Every heuristic, with several batch sizes where it has one."""

ALSO = "oracle-sjf:batch=16,oracle-sjf:batch=32"
"""Clairvoyant: no rivals, but the search starts from their decisions too."""

CASES: dict[str, tuple[str, ...]] = {
    "4 servers": (),
    "4 servers, bursty": ("--burstiness", "0.25"),
    "1 server": ("--servers", "1"),
    "1 server, bursty": ("--servers", "1", "--burstiness", "0.25"),
}
"""Options that change the default scenario, by case."""

LOADS = (1.2, 1.6, 2.0)

ORDERS = ("fifo", "sjf")
"""Disciplines of the bins under which plans are searched: those that a scheduler can use with its predictions."""

UNIT_REQUESTS = 5_000
"""Requests of the runs that find the rate of load 1."""

SEED = 700_000
"""Seed of the first trace: no policy was trained on it, and no other table uses it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("hindsight").add_argument
    add("--challenger", default="network", metavar="POLICY", help="the policy on trial (default network)")
    add("--heuristics", default=HEURISTICS, metavar="LIST", help="the rivals of the challenger and of the search")
    add("--loads", type=list_of(number(0, 10, above=True)), default=LOADS, metavar="X,...", help="default 1.2,1.6,2")
    add("--cases", default="all", metavar="NAME;NAME", help=f"of {'; '.join(CASES)}")
    add(
        "--requests",
        type=number(2, 1000, whole=True),
        default=200,
        metavar="N",
        help="of a trace (default 200)",
    )
    trials = number(1, 1e9, whole=True)
    add("--trials", type=trials, default=15_000, metavar="N", help="plans tried per trace and order (default 15000)")
    orders = list_of(choice(ORDERS))
    add("--orders", type=orders, default=ORDERS, metavar="A,...", help="disciplines of the bins for plans: fifo,sjf")
    add("--report", metavar="FILE", help="write one HTML page")
    parser.set_defaults(seeds=20, seed=SEED)


def scenarios_of(session: Session) -> list[tuple[str, float, Scenario]]:
    """(case, load, scenario), in order."""
    options = session.options
    names = list(CASES) if options.cases == "all" else [name.strip() for name in options.cases.split(";")]
    found = []
    for name in names:
        if name not in CASES:
            raise ValueError(f"--cases: {name!r} is not known. Choose from {'; '.join(CASES)}.")
        plain = scenario_of(*OF_2023, "--rate", "1", "--requests", str(UNIT_REQUESTS), *CASES[name])
        start = 0.5 * len(plain.config.servers)
        unit = capacity(parse(REFERENCE), plain.at_rate(start), session.crew).rate
        for load in options.loads:
            there = plain.at_rate(load * unit)
            short = replace(there, workload=replace(there.workload, requests=options.requests), load=load)
            found.append((name, load, short))
    return found


def missed_requests(
    session: Session, case: str, load: float, scenario: Scenario, policies: Sequence[Bound]
) -> dict[str, Ints]:
    """Missed requests (traces,) of every policy."""
    cells = [Cell(policy.label, policy, scenario, seed) for policy in policies for seed in session.seeds]
    factors = [{"case": case, "load": load} for _ in cells]
    runs = session.runs(cells, f"{case}, load {load:g}", factors)
    missed = np.array([missed_of(run.summary) for run in runs]).reshape(len(policies), -1)
    return {policy.label: row for policy, row in zip(policies, missed, strict=True)}


def missed_of(summary: Mapping[str, Any]) -> int:
    """Requests that missed their SLO."""
    return round(summary["submitted"] * (1.0 - summary["slo_attainment"]))


def run_group(session: Session, case: str, load: float, scenario: Scenario) -> CaseLoad:
    """Run the heuristics and the challenger, search, and run the plans that were found like any other policy."""
    options = session.options
    rivals, challenger = parse_list(options.heuristics), parse(options.challenger)
    missed = missed_requests(session, case, load, scenario, rivals)
    own = missed_requests(session, case, load, scenario, [challenger])[challenger.label]
    starts = [*rivals, *parse_list(ALSO)]
    search = PlanSearch(scenario, tuple(starts), options.orders, options.trials)
    folder = Path(options.out) if options.out else None
    plans = search_plans(search, session.seeds, options.jobs, folder, f"searching {case}, load {load:g}")
    cells = [Cell("search", plan, scenario, seed) for seed, plan in zip(session.seeds, plans, strict=True)]
    factors = [{"case": case, "load": load} for _ in cells]
    runs = session.runs(cells, f"{case}, load {load:g}", factors)
    found = np.array([missed_of(run.summary) for run in runs])
    best = np.min(list(missed.values()), axis=0)  # the search knows the plans of all heuristics: it is never worse
    return CaseLoad(case, load, scenario.workload.mean_rate, missed, own, np.minimum(found, best))


def find(session: Session) -> Findings:
    """Run, search, compare."""
    options = session.options
    scenarios = scenarios_of(session)
    session.notes += label_notes([*parse_list(options.heuristics), parse(options.challenger)])
    stages = [f"{case}, load {load:g}" for case, load, _ in scenarios]
    pieces = float(len(session.seeds) * (len(parse_list(options.heuristics)) + 3))  # challenger, search, its plan
    groups = []
    with LongRun("hindsight.py", "case-loads", dict.fromkeys(stages, pieces)) as long_run:
        for stage, there in zip(stages, scenarios, strict=True):
            with long_run.stage(stage):
                groups.append(run_group(session, *there))
    challenger, requests = parse(options.challenger).label, options.requests
    heading = (
        f"{challenger}, {len(parse_list(options.heuristics))} heuristics and a search in hindsight ({options.trials:,} "
        f"plans a trace and order): {len(groups)} case-loads x {len(session.seeds)} traces of {requests:,} requests "
        f"from seed {session.seeds[0]}"
    )
    found = [bars(groups, challenger, requests, options.seed), by_group(groups, challenger, requests)]
    found.append(by_gap(groups, options.seed))
    about = [{"case": case, **scenario.describe()} for case, _, scenario in scenarios]
    drawings = {"hindsight": lambda: draw_misses(groups, challenger, requests, heading)}
    return Findings(fold(heading), found, drawings, {"cases": about})


EXPERIMENT = Experiment(
    "hindsight.py",
    "Short traces: the gap between the best heuristic and a search in hindsight, and how much of it is closed.",
    add_options,
    find,
    run_options_parser,
)
