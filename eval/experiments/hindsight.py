"""How much of what could have been done is done: a search in hindsight on short traces against what schedulers reach.

The search knows all arrivals and true lengths, so nobody can be asked to reach it; the share of the gap between the
best heuristic and the search that a challenger closes says how much of it can be had without knowing them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.best_possible.plan_store import Search, searched
from llmsched.eval.cli.frame import Experiment, Findings, Session, scenario_of
from llmsched.eval.cli.option_lists import several
from llmsched.eval.cli.options import add_run_options
from llmsched.eval.cli.parser import OneLineParser
from llmsched.eval.cli.readers import choice, number
from llmsched.eval.experiments.benchmark.statistics import LEVEL, RESAMPLES, Estimate
from llmsched.eval.figures.charts import Panel, Series, lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.report.textual import folded
from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.scenario import Scenario
from llmsched.eval.runs.tune import REFERENCE, capacity
from llmsched.policies import Bound, parse, parse_list

HEURISTICS = (
    "static:batch=8,static:batch=16,static:batch=32,dynamic,multibin,multibin:select=oldest,multibin:select=longest,"
    "multibin-fixed:batch=8,timeout:batch=16:wait=1000,adaptive-memory,window,priority,longest-queue,weighted-queue,sjf,"
    "sjf:batch=8,sjf:batch=16,sjf:batch=32,sjf:batch=48,least-slack,aimd"
)
"""Every heuristic, in several sizes where it has one."""

ALSO = "oracle-sjf:batch=16,oracle-sjf:batch=32"
"""Clairvoyant: not among the heuristics, but the search starts from their decisions too."""

CASES: dict[str, tuple[str, ...]] = {
    "4 servers": (),
    "4 servers, bursty": ("--burstiness", "0.25"),
    "1 server": ("--servers", "1"),
    "1 server, bursty": ("--servers", "1", "--burstiness", "0.25"),
}
"""The default scenario with changes."""

LOADS = (1.2, 1.6, 2.0)

ORDERS = ("fifo", "sjf")
"""Disciplines inside the bins under which plans are looked for: what a scheduler can have with its predictions."""

UNIT_REQUESTS = 5_000
"""Requests of the runs that say what a load of 1 is."""

BAR = 0.3
"""Share of the gap to be closed."""

SEED = 700_000
"""First trace: neither trained on nor in any other table."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Missed requests (traces,) in a case at a load: of every heuristic, of the challenger, of the search."""

    case: str
    load: float
    rate: float
    rivals: Mapping[str, Ints]
    own: Ints
    found: Ints

    @property
    def best(self) -> Ints:
        """The best heuristic of every trace."""
        return np.min(list(self.rivals.values()), axis=0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument_group("hindsight").add_argument
    add("--challenger", default="network", metavar="POLICY", help="the policy on trial (default network)")
    add("--heuristics", default=HEURISTICS, metavar="LIST", help="whom the search has to beat")
    add("--loads", type=several(number(0, 10, above=True)), default=LOADS, metavar="X,...", help="default 1.2,1.6,2")
    add("--cases", default="all", metavar="NAME;NAME", help=f"of {'; '.join(CASES)}")
    add("--requests", type=number(2, 1000, whole=True), default=200, metavar="N", help="in a trace (default 200)")
    trials = number(1, 1e9, whole=True)
    add("--trials", type=trials, default=15_000, metavar="N", help="plans tried per trace and order (default 15000)")
    orders = several(choice(ORDERS))
    add("--orders", type=orders, default=ORDERS, metavar="A,...", help="inside the bins, for plans: fifo,sjf")
    add("--report", metavar="FILE", help="one page of HTML")
    parser.set_defaults(seeds=20, seed=SEED, timeline=None, ray=None)


def plain_parser(program: str, about: str) -> OneLineParser:
    """A parser with the options of runs; cases bring their scenarios."""
    parser = OneLineParser(prog=program, description=about, allow_abbrev=False)
    add_run_options(parser)
    return parser


def scenarios_of(session: Session) -> list[tuple[str, float, Scenario]]:
    """(case, load, scenario), in order."""
    options = session.options
    names = list(CASES) if options.cases == "all" else [name.strip() for name in options.cases.split(";")]
    found = []
    for name in names:
        if name not in CASES:
            raise ValueError(f"--cases: {name!r} is not known. Choose from {'; '.join(CASES)}.")
        plain = scenario_of("--rate", "1", "--requests", str(UNIT_REQUESTS), *CASES[name])
        start = 0.5 * len(plain.config.servers)
        unit = capacity(parse(REFERENCE), plain.at_rate(start), session.crew).rate
        for load in options.loads:
            there = plain.at_rate(load * unit)
            short = replace(there, workload=replace(there.workload, requests=options.requests), load=load)
            found.append((name, load, short))
    return found


def played(session: Session, case: str, load: float, scenario: Scenario, policies: Sequence[Bound]) -> dict[str, Ints]:
    """Missed requests (traces,) of every policy."""
    cells = [Cell(policy.label, policy, scenario, seed) for policy in policies for seed in session.seeds]
    factors = [{"case": case, "load": load} for _ in cells]
    runs = session.runs(cells, f"{case}, load {load:g}", factors)
    missed = np.array([missed_of(run.summary) for run in runs]).reshape(len(policies), -1)
    return {policy.label: row for policy, row in zip(policies, missed, strict=True)}


def missed_of(summary: Mapping[str, Any]) -> int:
    """Requests that missed their SLO."""
    return round(summary["submitted"] * (1.0 - summary["slo_attainment"]))


def run_group(session: Session, case: str, load: float, scenario: Scenario) -> Group:
    """Run the heuristics and the challenger, search, and run what was found like any other policy."""
    options = session.options
    rivals, challenger = parse_list(options.heuristics), parse(options.challenger)
    missed = played(session, case, load, scenario, rivals)
    own = played(session, case, load, scenario, [challenger])[challenger.label]
    starts = [*rivals, *parse_list(ALSO)]
    search = Search(scenario, tuple(starts), options.orders, options.trials)
    folder = Path(options.out) if options.out else None
    plans = searched(search, session.seeds, options.jobs, folder, f"searching {case}, load {load:g}")
    cells = [Cell("search", plan, scenario, seed) for seed, plan in zip(session.seeds, plans, strict=True)]
    factors = [{"case": case, "load": load} for _ in cells]
    runs = session.runs(cells, f"{case}, load {load:g}", factors)
    found = np.array([missed_of(run.summary) for run in runs])
    best = np.min(list(missed.values()), axis=0)  # where the search found nothing better, this is what it has
    return Group(case, load, scenario.workload.mean_rate, missed, own, np.minimum(found, best))


def gaps(groups: Sequence[Group], rivals: Sequence[Ints]) -> list[tuple[NDArray, NDArray]]:
    """By group, over the traces where the search beats the rival: what the challenger gained on it, and the search."""
    pairs = []
    for group, rival in zip(groups, rivals, strict=True):
        open_ = group.found < rival
        pairs.append(((rival - group.own)[open_].astype(float), (rival - group.found)[open_].astype(float)))
    return [pair for pair in pairs if len(pair[0])]


def share(pairs: Sequence[tuple[NDArray, NDArray]]) -> float:
    """Share of the gap that was closed: all gains of the challenger over all gains of the search."""
    return float(sum(own.sum() for own, _ in pairs) / sum(whole.sum() for _, whole in pairs))


def closed(groups: Sequence[Group], rivals: Sequence[Ints], seed: int) -> Estimate:
    """The share with its interval under resampling of traces within groups."""
    pairs, rng = gaps(groups, rivals), np.random.default_rng(seed)
    if not pairs:
        return Estimate(np.nan, np.nan, np.nan, 0)
    found = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        rows = [rng.integers(len(own), size=len(own)) for own, _ in pairs]
        found[i] = share([(own[row], whole[row]) for (own, whole), row in zip(pairs, rows, strict=True)])
    low, high = np.quantile(found, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Estimate(share(pairs), float(low), float(high), len(pairs))


def fixed_best(groups: Sequence[Group]) -> str:
    """The one heuristic that misses least over all traces of ``groups``."""
    return min(groups[0].rivals, key=lambda name: sum(int(group.rivals[name].sum()) for group in groups))


def by_group(groups: Sequence[Group], challenger: str, requests: int) -> Table:
    """A row per case and load: who misses how many."""
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


def by_gap(groups: Sequence[Group], seed: int) -> Table:
    """A row per case and load: the gaps, and how much of them is closed."""
    rows = []
    for group in groups:
        row: dict[str, Any] = {"case": group.case, "load": group.load, "traces": len(group.own)}
        for key, rival in (("best", group.best), ("fixed", group.rivals[fixed_best([group])])):
            there = closed([group], [rival], seed)
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


def bars(groups: Sequence[Group], challenger: str, requests: int, seed: int) -> Table:
    """The announced bar, against three ideas of the best heuristic."""
    one = fixed_best(groups)
    ideas = {
        "best of every trace, in hindsight": [group.best for group in groups],
        "best of every case and load": [group.rivals[fixed_best([group])] for group in groups],
        f"one for all: {one}": [group.rivals[one] for group in groups],
    }
    rows = []
    for title, rivals in ideas.items():
        there, open_ = closed(groups, rivals, seed), [g.found < r for g, r in zip(groups, rivals, strict=True)]
        row: dict[str, Any] = {"rival": title, "gaps": int(sum(places.sum() for places in open_))}
        for key, misses in (("theirs", rivals), ("own", [g.own for g in groups]), ("found", [g.found for g in groups])):
            picked = np.concatenate([m[places] for m, places in zip(misses, open_, strict=True)])
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


def drawing(groups: Sequence[Group], challenger: str, requests: int, heading: str) -> Any:
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
            Series(name, [g.load for g in here], [interval(list(row / requests)) for row in rows], colour)
            for (name, rows), colour in zip(members.items(), (0, 7, 1, 2), strict=True)
        ]
        panels.append(Panel(case, "load", "missed, %", drawn, factor=100.0))
    return lines("Misses on short traces", heading, panels, columns=2, height=2.8)


def find(session: Session) -> Findings:
    """Run, search, compare."""
    options = session.options
    scenarios = scenarios_of(session)
    groups = [run_group(session, *there) for there in scenarios]
    challenger, requests = parse(options.challenger).label, options.requests
    heading = (
        f"{challenger}, {len(parse_list(options.heuristics))} heuristics and a search in hindsight ({options.trials:,} "
        f"plans a trace and order): {len(groups)} case-loads x {len(session.seeds)} traces of {requests:,} requests "
        f"from seed {session.seeds[0]}"
    )
    found = [bars(groups, challenger, requests, options.seed), by_group(groups, challenger, requests)]
    found.append(by_gap(groups, options.seed))
    about = [{"case": case, **scenario.describe()} for case, _, scenario in scenarios]
    drawings = {"hindsight": lambda: drawing(groups, challenger, requests, heading)}
    return Findings(folded(heading), found, drawings, {"cases": about})


EXPERIMENT = Experiment(
    "hindsight.py",
    "Short traces: the gap between the best heuristic and a search in hindsight, and how much of it is closed.",
    add_options,
    find,
    plain_parser,
)
