"""The stress test of the public multi-bin simulator, repeated: requests, servers and bins, each from few to many.

Every policy has the same servers, and the load does not depend on the number of requests.  There are two kinds of load:
the clock of the workload times 1, 10, 100 (the levels of the original, which overload a few servers), and stated loads,
at which the rate grows with the servers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.readers import number
from llmsched.eval.experiments.stress.points import GRID, Level, Point, StressScenarios
from llmsched.eval.experiments.stress.study import StressStudy
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import REFERENCE, VALIDATED, capacity
from llmsched.eval.scenarios.describing import IN_TITLE, changes
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import variant
from llmsched.policies import Bound, parse
from llmsched_env.core.constants import MAX_BINS, MAX_SERVERS

POLICIES = "static,static:batch=32,dynamic,multibin"
STREAM_FROM = 2_000_000
"""Runs of more requests are streamed: fixed memory, percentiles to 0.5 %."""

CAPACITY_REQUESTS = 20_000
"""Requests of the runs that find the unit of load, or --at if that is less."""

SERVERS = (1, 2, 4, 8, 16, 32, 64, 100)
BINS = (1, 2, 4, 8, 16, 32)
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("stress").add_argument
    size = number(100, 1e9, whole=True)
    above = {"above": True}
    add("--policies", default=POLICIES, metavar="LIST", help=f"default {POLICIES}")
    add("--sizes", type=list_of(size), default=SIZES, metavar="N,N,...", help="requests (default 1000 to 1000000)")
    add("--server-counts", type=list_of(number(1, MAX_SERVERS, whole=True)), default=SERVERS, metavar="S,S,...")
    add("--bin-counts", type=list_of(number(1, MAX_BINS, whole=True)), default=BINS, metavar="K,K,...")
    add(
        "--at", type=size, default=1_000_000, metavar="N", help="requests while servers and bins vary (default 1000000)"
    )
    add("--clocks", type=list_of(number(0, 1e6, **above)), default=(1.0, 10.0, 100.0), metavar="X,X,...")
    add("--loads", type=list_of(number(0, 1e3, **above)), default=(0.8, 1.2), metavar="X,X,...")
    add("--full", action="store_true", help=f"every size x servers x bins for {GRID} too (192 runs per clock and seed)")
    parser.set_defaults(seeds=3)


def base_bins(scenario: Scenario) -> int:
    """The number of bins of the scenario itself."""
    return scenario.config.queueing.num_bins


def levels_of(session: Session, scenario: Scenario) -> list[Level]:
    """Clocks of the workload, and loads per server: multiples of the capacity of the reference policy."""
    options, own = session.options, scenario.workload.mean_rate
    found = [Level(f"clock x {clock:g}", rate=clock * own) for clock in options.clocks]
    if options.loads:
        sized = replace(
            scenario, workload=replace(scenario.workload, requests=min(CAPACITY_REQUESTS, options.at), duration_s=None)
        )
        unit = capacity(parse(REFERENCE), sized, session.crew)
        servers = len(scenario.config.servers)
        session.notes.append(
            f"Load 1 is {unit.rate / servers:.4g} requests/s per server: the capacity of {unit.policy} on {servers} "
            f"servers with 95 % within the SLO ({VALIDATED}). The workload's own clock has {own:.4g} requests/s."
        )
        found += [Level(f"load {load:g}", rate_per_server=load * unit.rate / servers) for load in options.loads]
    return found


def points(session: Session, scenario: Scenario, policies: Sequence[Bound]) -> Iterator[Point]:
    """All points of the study, those with common arrivals together."""
    options, servers, bins = session.options, len(scenario.config.servers), base_bins(scenario)
    for level in levels_of(session, scenario):
        for size in options.sizes:
            for policy in policies:
                yield Point("requests", level, policy, size, servers, bins)
        for count in options.server_counts:
            for policy in policies:
                yield Point("servers", level, policy, options.at, count, bins)
        for k in options.bin_counts:
            yield Point("bins", level, parse(GRID), options.at, servers, k)
        if options.full and level.rate:
            for size in options.sizes:
                for count in options.server_counts:
                    for k in options.bin_counts:
                        yield Point("grid", level, parse(GRID), size, count, k)


def find(session: Session) -> Findings:
    """The three steps, and the grid with --full."""
    options = session.options
    for name in ("rate", "rate_scale", "load", "requests", "duration"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')}: give --clocks, --loads, --sizes and --at instead.")
    scenario = variant(options, rate_scale=1.0)
    if len(set(scenario.config.servers)) > 1:
        raise ValueError("--profile: the number of servers varies, so they must be of one kind.")
    scenarios, policies = StressScenarios(session), session.policies(options.policies)
    work = list(points(session, scenario, policies))
    seeds = session.seeds
    of_point = {point: scenarios.at(point) for point in dict.fromkeys(work)}
    cells = [
        Cell(p.policy.label, p.policy, of_point[p], seed, streamed=p.size > STREAM_FROM) for p in work for seed in seeds
    ]
    outcomes = session.runs(cells, "stress", [p.factors for p in work for _ in seeds])
    found = {p: outcomes[i * len(seeds) : (i + 1) * len(seeds)] for i, p in enumerate(work)}
    names = [policy.label for policy in policies]
    study = StressStudy(found, names, list(dict.fromkeys(p.level for p in work)))
    session.notes.append(speed_note(outcomes, session))
    tables = [
        study.by("requests", "size", "requests"),
        study.by("servers", "servers", "servers"),
        study.scaling(),
        study.bins(),
    ]
    if options.full:
        tables.append(study.grid())
    shown = [Cell(p.policy.label, p.policy, of_point[p], seeds[0]) for p in work if p.step == "requests"][
        : len(policies)
    ]
    about = {"scenario": scenario.describe()}
    kind, work_name = scenario.config.servers[0].profile, scenario.workload.name
    title = f"{work_name}, {options.at:,} requests per seed; TP{kind.tensor_parallel} {kind.name}; SLO {scenario.goal}"
    title = "; ".join([title, *changes(scenario, besides=IN_TITLE)])
    first = f"stress: {work_name}, {min(options.sizes):,} to {max(options.sizes):,} requests x {len(seeds)} seeds"
    heading_text = "\n".join([first, *heading(scenario, seeds).splitlines()[1:]])
    drawings = {"servers": lambda: study.draw(title), "bins": lambda: study.draw_bins(title)}
    return Findings(heading_text, tables, drawings, about, timeline=shown)


def speed_note(outcomes: Sequence[Outcome], session: Session) -> str:
    """A note on the number of runs and the speed of the kernel."""
    requests = sum(outcome.summary["submitted"] for outcome in outcomes)
    seconds = sum(outcome.summary["wall_s"] for outcome in outcomes)
    return (
        f"{len(outcomes):,} runs, {requests / 1e6:,.1f} million requests, {seconds:.1f} s in the simulation kernel "
        f"({requests / seconds / 1e6:.1f} million requests/s; {session.options.jobs} at a time)."
    )


EXPERIMENT = Experiment(
    "stress.py",
    "Requests, servers and bins from few to many, at equal servers and at loads that do not depend on them.",
    add_options,
    find,
)
