"""The public multi-bin simulator's stress test, redone: requests, servers and bins, each from few to many.

Every policy has the same servers, the load does not depend on the number of requests, and both kinds of load are run:
the clock of the workload times 1, 10, 100 (their levels, at which few servers drown), and stated loads, at which the
rate grows with the servers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llmsched.eval.cli.frame import Experiment, Findings, Session, variant
from llmsched.eval.cli.option_lists import several
from llmsched.eval.cli.readers import number
from llmsched.eval.experiments.capacity import with_servers
from llmsched.eval.figures.charts import Panel, Series, lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.scenario import Scenario
from llmsched.eval.runs.tune import REFERENCE, VALIDATED, capacity
from llmsched.policies import Bound, parse, parse_list
from llmsched_env.core.constants import MAX_BINS, MAX_SERVERS

POLICIES = "static,static:batch=32,dynamic,multibin"
STREAM_FROM = 2_000_000
"""Runs of more requests are streamed: fixed memory, percentiles to 0.5 %."""

CAPACITY_REQUESTS = 20_000
"""Requests of the runs in which the unit of load is searched, or --at if that is less."""

SERVERS = (1, 2, 4, 8, 16, 32, 64, 100)
BINS = (1, 2, 4, 8, 16, 32)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
GRID = "multibin"
"""The policy of the full grid."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument_group("stress").add_argument
    size = number(100, 1e9, whole=True)
    above = {"above": True}
    add("--policies", default=POLICIES, metavar="LIST", help=f"default {POLICIES}")
    add("--sizes", type=several(size), default=SIZES, metavar="N,N,...", help="requests (default 1000 to 1000000)")
    add("--server-counts", type=several(number(1, MAX_SERVERS, whole=True)), default=SERVERS, metavar="S,S,...")
    add("--bin-counts", type=several(number(1, MAX_BINS, whole=True)), default=BINS, metavar="K,K,...")
    add(
        "--at", type=size, default=1_000_000, metavar="N", help="requests while servers and bins vary (default 1000000)"
    )
    add("--clocks", type=several(number(0, 1e6, **above)), default=(1.0, 10.0, 100.0), metavar="X,X,...")
    add("--loads", type=several(number(0, 1e3, **above)), default=(0.8, 1.2), metavar="X,X,...")
    add("--full", action="store_true", help=f"every size x servers x bins for {GRID} too (192 runs a clock and seed)")
    parser.set_defaults(seeds=3)


@dataclass(frozen=True)
class Level:
    """How hard it is: a fixed rate (requests/s), or one per server."""

    name: str
    rate: float = 0.0
    rate_per_server: float = 0.0

    def at(self, servers: int) -> float:
        """The rate for so many servers."""
        return self.rate + self.rate_per_server * servers


@dataclass(frozen=True)
class Point:
    """A place of the study: step, level, policy and the three numbers that vary."""

    step: str
    level: Level
    policy: Bound
    size: int
    servers: int
    bins: int

    @property
    def factors(self) -> dict[str, object]:
        """How its rows are marked."""
        rate = self.level.at(self.servers)
        return {
            "step": self.step,
            "level": self.level.name,
            "rate": rate,
            "requests": self.size,
            "servers": self.servers,
            "bins": self.bins,
        }


class Worlds:
    """Scenarios by size, servers, bins and rate, made once."""

    def __init__(self, session: Session) -> None:
        self._options = session.options
        self._made: dict[int, Scenario] = {}

    def with_bins(self, bins: int) -> Scenario:
        """The session's scenario with so many bins; its rate is the workload's own."""
        if bins not in self._made:
            self._made[bins] = variant(self._options, rate_scale=1.0, bins=bins)
        return self._made[bins]

    def at(self, point: Point) -> Scenario:
        """The scenario of a point."""
        base = with_servers(self.with_bins(point.bins), point.servers)
        work = replace(base.workload, requests=point.size, duration_s=None)
        return replace(base, workload=work).at_rate(point.level.at(point.servers))


def base_bins(scenario: Scenario) -> int:
    """The number of bins of the scenario itself."""
    return scenario.config.queueing.num_bins


def levels(session: Session, scenario: Scenario) -> list[Level]:
    """Clocks of the workload, and loads per server: multiples of what the reference carries on the own servers."""
    options, own = session.options, scenario.workload.mean_rate
    found = [Level(f"clock x {clock:g}", rate=clock * own) for clock in options.clocks]
    if options.loads:
        sized = replace(
            scenario, workload=replace(scenario.workload, requests=min(CAPACITY_REQUESTS, options.at), duration_s=None)
        )
        unit = capacity(parse(REFERENCE), sized, session.crew)
        servers = len(scenario.config.servers)
        session.notes.append(
            f"Load 1 is {unit.rate / servers:.4g} requests/s a server: what {unit.policy} carries on {servers} servers "
            f"within the SLO of 95 % ({VALIDATED}). The workload's own clock has {own:.4g} requests/s."
        )
        found += [Level(f"load {load:g}", rate_per_server=load * unit.rate / servers) for load in options.loads]
    return found


def points(session: Session, scenario: Scenario, policies: Sequence[Bound]) -> Iterator[Point]:
    """All points of the study, those with common arrivals together."""
    options, servers, bins = session.options, len(scenario.config.servers), base_bins(scenario)
    for level in levels(session, scenario):
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
    """The three steps, and the grid where asked for."""
    options = session.options
    for name in ("rate", "rate_scale", "load", "requests", "duration"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')}: give --clocks, --loads, --sizes and --at instead.")
    scenario = variant(options, rate_scale=1.0)
    if len(set(scenario.config.servers)) > 1:
        raise ValueError("--profile: the number of servers varies, so they must be of one kind.")
    worlds, policies = Worlds(session), parse_list(options.policies)
    work = list(points(session, scenario, policies))
    seeds = session.seeds
    made = {point: worlds.at(point) for point in dict.fromkeys(work)}
    cells = [
        Cell(p.policy.label, p.policy, made[p], seed, streamed=p.size > STREAM_FROM) for p in work for seed in seeds
    ]
    outcomes = session.runs(cells, "stress", [p.factors for p in work for _ in seeds])
    found = {p: outcomes[i * len(seeds) : (i + 1) * len(seeds)] for i, p in enumerate(work)}
    names = [policy.label for policy in policies]
    study = Study(found, names, list(dict.fromkeys(p.level for p in work)))
    session.notes.append(speed(outcomes, session))
    tables = [
        study.by("requests", "size", "requests"),
        study.by("servers", "servers", "servers"),
        study.scaling(),
        study.bins(),
    ]
    if options.full:
        tables.append(study.grid())
    shown = [Cell(p.policy.label, p.policy, made[p], seeds[0]) for p in work if p.step == "requests"][: len(policies)]
    about = {"scenario": scenario.describe()}
    kind, work_name = scenario.config.servers[0].profile, scenario.workload.name
    title = f"{work_name}, {options.at:,} requests per seed; TP{kind.tensor_parallel} {kind.name}; SLO {scenario.goal}"
    first = f"stress: {work_name}, {min(options.sizes):,} to {max(options.sizes):,} requests x {len(seeds)} seeds"
    told = "\n".join([first, *heading(scenario, seeds).splitlines()[1:]])
    drawings = {"servers": lambda: study.draw(title), "bins": lambda: study.draw_bins(title)}
    return Findings(told, tables, drawings, about, timeline=shown)


def speed(outcomes: Sequence[Outcome], session: Session) -> str:
    """How much was simulated, and how fast the kernel was."""
    requests = sum(outcome.summary["submitted"] for outcome in outcomes)
    seconds = sum(outcome.summary["wall_s"] for outcome in outcomes)
    return (
        f"{len(outcomes):,} runs, {requests / 1e6:,.1f} million requests, {seconds:.1f} s in the simulation kernel "
        f"({requests / seconds / 1e6:.1f} million requests/s; {session.options.jobs} at a time)."
    )


@dataclass(frozen=True)
class Study:
    """The runs by point, and what is told of them."""

    found: dict[Point, list[Outcome]]
    names: Sequence[str]
    levels: Sequence[Level]

    def value(self, point: Point, key: str) -> Interval:
        """A metric over seeds."""
        return interval([float(outcome.summary[key]) for outcome in self.found[point]])

    def step(self, step: str, level: Level, field: str) -> dict[int, dict[str, Point]]:
        """Points of a step and level by the number that varies, then by policy."""
        found: dict[int, dict[str, Point]] = {}
        for point in self.found:
            if point.step == step and point.level == level:
                found.setdefault(getattr(point, field), {})[point.policy.label] = point
        return found

    def by(self, step: str, field: str, title: str) -> Table:
        """SLO attainment of every policy by the number that varies."""
        rows: list[dict] = []
        for level in self.levels:
            for place, group in self.step(step, level, field).items():
                rate = next(iter(group.values())).factors["rate"]
                rows.append(
                    {"level": level.name, "rate": rate, field: place}
                    | {name: self.value(point, "slo_attainment") for name, point in group.items()}
                )
        columns = [Column("level", "level"), Column("rate", "rate", "req/s", 2), Column(field, title, digits=0)]
        columns += [Column(name, name, "SLO met, %", 1, 100.0) for name in self.names]
        return Table(f"by_{step}", f"SLO attainment by number of {title}", columns, rows)

    def scaling(self) -> Table:
        """Throughput by servers at fixed rates: of each policy per server, relative to the fewest servers."""
        rows: list[dict] = []
        for level in [level for level in self.levels if level.rate]:
            groups = self.step("servers", level, "servers")
            fewest = min(groups)
            for count, group in groups.items():
                row: dict = {"level": level.name, "servers": count}
                for name, point in group.items():
                    row[name] = self._efficiency(point, groups[fewest][name])
                rows.append(row)
        columns = [Column("level", "level"), Column("servers", "servers", digits=0)]
        columns += [Column(name, name, "efficiency, %", 1, 100.0) for name in self.names]
        note = (
            "Throughput per server relative to that with the fewest servers. Under 100 % where the arrivals no longer "
            "fill the servers: at a fixed rate more servers idle."
        )
        return Table("scaling", "Scaling efficiency of throughput", columns, rows, note)

    def _efficiency(self, point: Point, base: Point) -> Interval:
        ratio = base.servers / point.servers
        pairs = zip(self.found[point], self.found[base], strict=True)
        key = "request_throughput"
        return interval([ratio * one.summary[key] / other.summary[key] for one, other in pairs])

    def bins(self) -> Table:
        """What the number of bins does to multibin."""
        rows: list[dict] = []
        for level in self.levels:
            for k, group in self.step("bins", level, "bins").items():
                point = group[GRID]
                metrics = ("slo_attainment", "mean_e2el_ms", "p95_e2el_ms", "request_throughput", "mean_batch_size")
                rows.append({"level": level.name, "bins": k} | {key: self.value(point, key) for key in metrics})
        columns = [
            Column("level", "level"),
            Column("bins", "bins", digits=0),
            Column("slo_attainment", "SLO met", "%", 1, 100.0),
            Column("mean_e2el_ms", "E2E mean", "s", 1, 1e-3),
            Column("p95_e2el_ms", "E2E p95", "s", 1, 1e-3),
            Column("request_throughput", "throughput", "req/s", 3),
            Column("mean_batch_size", "batch", "mean", 1),
        ]
        return Table("by_bins", f"{GRID} by number of bins", columns, rows, "One bin is dynamic: a single queue.")

    def grid(self) -> Table:
        """The whole grid."""
        rows: list[dict] = [
            {**p.factors, "met": self.value(p, "slo_attainment"), "rate_out": self.value(p, "request_throughput")}
            for p in self.found
            if p.step == "grid"
        ]
        columns = [Column("level", "level"), *(Column(key, key, digits=0) for key in ("requests", "servers", "bins"))]
        columns += [Column("met", "SLO met", "%", 1, 100.0), Column("rate_out", "throughput", "req/s", 3)]
        return Table("grid", f"{GRID}: every size, number of servers and number of bins", columns, rows)

    def draw(self, title: str):
        """SLO attainment and throughput by servers, a panel per level."""
        panels = []
        for level in self.levels:
            groups = self.step("servers", level, "servers")
            counts = sorted(groups)
            series = [
                Series(name, counts, [self.value(groups[c][name], "slo_attainment") for c in counts], row)
                for row, name in enumerate(self.names)
            ]
            panels.append(Panel(level.name, "servers", "SLO met, %", series, log_x=True, factor=100.0, share=True))
        return lines("Servers", title, panels, height=2.9)

    def draw_bins(self, title: str):
        """SLO attainment of multibin by bins, a line per level."""
        series = []
        for row, level in enumerate(self.levels):
            groups = self.step("bins", level, "bins")
            counts = sorted(groups)
            series.append(
                Series(level.name, counts, [self.value(groups[c][GRID], "slo_attainment") for c in counts], row)
            )
        panel = Panel("", "bins", "SLO met, %", series, log_x=True, factor=100.0, share=True)
        return lines(f"Bins of {GRID}", title, [panel], columns=1, height=4.2)


EXPERIMENT = Experiment(
    "stress.py",
    "Requests, servers and bins from few to many, at equal servers and at loads that do not depend on them.",
    add_options,
    find,
)
