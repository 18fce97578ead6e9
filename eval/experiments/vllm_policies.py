"""The scheduling policies that are merged into, or proposed for, vLLM under one protocol.

All run under the rules of vLLM 0.32, on one server, with its prefix cache on; they differ in one decision each.  Seed
by seed they get the same arrivals, at a share of what the first policy serves if everything arrives at once.  Half of
the requests are interactive, half are not; the targets of both are multiples of the times on an empty server.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, run_options_parser
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.readers import number
from llmsched.eval.report.tables import Column, Table, Value
from llmsched.eval.runs.intervals import Interval, interval, paired_interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import Bound, parse_list

BASE = "vllm"
POLICIES = f"{BASE},vllm-priority,vllm-sjf,vllm-residual-sjf,vllm-slo,vllm-cached,vllm-least-computed"
WORKLOADS = ("azure-conv", "burstgpt", "mooncake-conv")
SHARED_PREFIX = "20:2048:1"
"""What requests of the last workload share where no trace says it."""

PROFILES = (
    "h100/llama-3.1-70b/vllm/fp8-tp2-unknown",
    "h200/llama-3.1-70b/vllm/fp8-tp1-unknown",
    "b200/llama-3.1-70b/vllm/fp8-tp1-unknown",
)
CLASSES = "interactive=0.5,ttft:1000 batch=0.5,ttft:1000"
"""Two classes of requests; the first has priority.  Their targets are multiples of the times without load."""

TARGETS = {"interactive": (4.0, 2.0), "batch": (20.0, 4.0)}
"""Targets of TTFT and TPOT by class, as multiples of their means at UNLOADED of the capacity."""

UNLOADED = 0.05

SATURATING_RATE = 1e4
"""Requests/s at which all arrive nearly at once."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("vllm_policies").add_argument
    add("--policies", default=POLICIES, metavar="LIST", help=f"the first is what others are held against ({POLICIES})")
    add(
        "--workloads",
        nargs="+",
        metavar="NAME|FILE",
        help=f"generators or traces, one after the other ({' '.join(WORKLOADS)}, the last with shared prefixes)",
    )
    add("--profiles", type=list_of(str), default=PROFILES, metavar="NAME,...", help="latency profiles of the servers")
    add("--requests", type=number(100, 1e7, whole=True), default=3000, metavar="N", help="of a run (3000)")
    add("--kv-share", type=number(0, 1, above=True), default=1.0, metavar="X", help="of the KV memory that is used (1)")
    add("--share", type=number(0, 10, above=True), default=0.9, metavar="X", help="arrivals per capacity (0.9)")


@dataclass(frozen=True)
class Case:
    """A workload on a GPU: its names, the scenario at its rate, and that rate in requests/s."""

    workload: str
    gpu: str
    scenario: Scenario
    rate: float


def scenarios(options: argparse.Namespace) -> list[tuple[str, str, Scenario]]:
    """(workload, GPU, scenario at a saturating rate) of every case."""
    given = options.workloads or WORKLOADS
    found = []
    for workload in given:
        shared = ["--shared-prefix", SHARED_PREFIX] if not options.workloads and workload == given[-1] else []
        for profile in options.profiles:
            words = ["--engine", "continuous", "--workload", workload, "--profile", profile, "--servers", "1", *shared]
            words += ["--slo-classes", *CLASSES.split(), "--requests", str(options.requests), "--rate", "10000"]
            name = os.path.basename(workload).partition(".")[0]
            found.append((name, profile.partition("/")[0].upper(), with_memory(scenario_of(*words), options.kv_share)))
    return found


def with_memory(scenario: Scenario, share: float) -> Scenario:
    """The scenario with a share of its servers' KV memory."""
    servers = tuple(replace(server, kv_tokens=float(int(share * server.eta))) for server in scenario.config.servers)
    return replace(scenario, config=replace(scenario.config, servers=servers))


def with_targets(scenario: Scenario, unloaded: Mapping[str, float]) -> Scenario:
    """The scenario whose classes have the multiples TARGETS of the TTFT and the TPOT of a run without load."""
    slos = []
    for slo in scenario.config.slos:
        ttft, tpot = TARGETS[slo.name]
        mean_s = {name: unloaded[f"mean_{name}_ms"] / 1000.0 for name in ("ttft", "tpot")}
        slos.append(replace(slo, ttft_s=ttft * mean_s["ttft"], tpot_s=tpot * mean_s["tpot"], e2e_s=math.inf))
    return replace(scenario, config=replace(scenario.config, slos=tuple(slos)))


def cases_at_share(session: Session, base: Bound) -> list[Case]:
    """Every case at the rate asked for, with its targets; the capacity is that of ``base`` where all arrive at once."""
    made = scenarios(session.options)
    cells = [Cell(base.text, base, scenario, session.options.seed) for _, _, scenario in made]
    marks = [{"workload": workload, "gpu": gpu, "part": "capacity"} for workload, gpu, _ in made]
    found = session.runs(cells, "capacities", marks)
    capacity = [float(outcome.summary["request_throughput"]) for outcome in found]
    cells = [
        Cell(base.text, base, scenario.at_rate(UNLOADED * rate), session.options.seed)
        for (_, _, scenario), rate in zip(made, capacity, strict=True)
    ]
    idle = session.runs(cells, "without load", [{**mark, "part": "without load"} for mark in marks])
    cases = []
    for (workload, gpu, scenario), served, unloaded in zip(made, capacity, idle, strict=True):
        rate = session.options.share * served
        cases.append(Case(workload, gpu, with_targets(scenario.at_rate(rate), unloaded.summary), rate))
    return cases


def by_seed(outcomes: Sequence[Outcome], key: str) -> dict[int, float]:
    """Values of a metric by seed; ``first_class`` is the share on target of the class that has priority."""
    if key == "first_class":
        return {outcome.seed: float(outcome.summary["per_class"][0]["slo_attainment"]) for outcome in outcomes}
    return {outcome.seed: float(outcome.summary[key]) for outcome in outcomes}


def relative(values: Mapping[int, float], base: Mapping[int, float]) -> Interval:
    """Mean of value / base - 1, paired by seed."""
    return interval([values[seed] / base[seed] - 1.0 if base[seed] > 0 else math.nan for seed in sorted(values)])


def rows_of(cases: Sequence[Case], policies: Sequence[Bound], runs: Mapping[tuple[int, int], Sequence[Outcome]]) -> Any:
    """A row for each case and policy: of the first its values, of the others differences from it."""
    rows: list[dict[str, Value]] = []
    for place, case in enumerate(cases):
        base = runs[place, 0]
        for p, policy in enumerate(policies):
            own = runs[place, p]
            first = {"workload": case.workload, "gpu": case.gpu} if p == 0 else {"workload": "", "gpu": ""}
            row: dict[str, Value] = {**first, "policy": policy.text}
            for name, key in (("met", "slo_attainment"), ("first_met", "first_class")):
                met = by_seed(own, key)
                row[name] = interval(list(met.values())) if p == 0 else paired_interval(met, by_seed(base, key))
            for key in ("mean_ttft_ms", "p99_ttft_ms", "mean_e2el_ms", "p99_e2el_ms", "longest_wait_ms"):
                values = by_seed(own, key)
                row[key] = interval(list(values.values()))
                row[f"{key}_change"] = None if p == 0 else relative(values, by_seed(base, key))
            for key in ("preemptions", "recomputed_tokens"):
                row[key] = interval(list(by_seed(own, key).values()))
            row["hits"] = interval(list(by_seed(own, "prefix_cache_hit_rate").values()))
            rows.append(row)
    return rows


def details(rows: Sequence[Mapping[str, Value]], options: argparse.Namespace) -> Table:
    """All metrics of every case and policy."""
    columns = [
        Column("workload", "workload"),
        Column("gpu", "GPU"),
        Column("policy", "policy"),
        Column("met", "SLO met, or change", "points", 1, 100.0),
        Column("first_met", "interactive", "points", 1, 100.0),
        Column("mean_ttft_ms", "mean TTFT", "s", 2, 1e-3),
        Column("p99_ttft_ms", "p99 TTFT", "s", 1, 1e-3),
        Column("mean_e2el_ms", "mean E2E", "s", 1, 1e-3),
        Column("p99_e2el_ms", "p99 E2E", "s", 1, 1e-3),
        Column("longest_wait_ms", "longest wait", "s", 0, 1e-3),
        Column("preemptions", "preemptions", "", 0),
        Column("recomputed_tokens", "recomputed", "1,000 tokens", 0, 1e-3),
        Column("hits", "cache hits", "%", 0, 100.0),
    ]
    note = (
        f"{options.seeds} seeds of {options.requests:,} requests, 95 % intervals. SLO met: of the first policy the "
        "share of requests in time, of the others the change in percentage points, paired by seed; beside it that of "
        "the interactive half."
    )
    return Table("details", "Every policy on every workload and GPU", columns, rows, note)


def overview(cases: Sequence[Case], policies: Sequence[Bound], rows: Sequence[Mapping[str, Value]]) -> list[Table]:
    """A table for SLO attainment and one for mean E2E: a row per policy, a column per case."""
    tables = []
    titles = {
        "met": ("attainment", "SLO met, change in points"),
        "first_met": ("interactive", "SLO met by the interactive half, change in points"),
        "mean_e2el_ms_change": ("e2e", "Mean E2E, change in %"),
        "p99_ttft_ms_change": ("ttft", "p99 TTFT, change in %"),
    }
    for key, (name, title) in titles.items():
        columns = [Column("policy", "policy")]
        columns += [
            Column(str(place), f"{case.workload} {case.gpu}", "", 1, 100.0, signed=True)
            for place, case in enumerate(cases)
        ]
        columns += [Column("wins", "better"), Column("losses", "worse")]
        found: list[dict[str, Value]] = []
        for p, policy in enumerate(policies[1:], 1):
            values = [rows[place * len(policies) + p][key] for place in range(len(cases))]
            sides = [v.mean > 0 for v in values if isinstance(v, Interval) and v.excludes_zero]
            up, down = sides.count(True), sides.count(False)
            better, worse = (up, down) if key in ("met", "first_met") else (down, up)
            row: dict[str, Value] = {"policy": policy.text, "wins": str(better), "losses": str(worse)}
            found.append(row | {str(place): value for place, value in enumerate(values)})
        note = f"Against {policies[0].text}, paired by seed. Better, worse: cases whose 95 % interval excludes 0."
        tables.append(Table(name, title, columns, found, note))
    return tables


def rates(cases: Sequence[Case], share: float) -> str:
    """The rates of the cases in a sentence."""
    listed = "; ".join(f"{case.workload} {case.gpu} {case.rate:.3g}" for case in cases)
    return f"Arrival rates in requests/s ({share:g} of the capacity): {listed}."


def find(session: Session) -> Findings:
    """Capacities, then every policy on every case."""
    options = session.options
    policies = parse_list(options.policies)
    if len(policies) < 2:
        raise ValueError(f"--policies {options.policies!r}: give at least two, the first is held against the others.")
    cases = cases_at_share(session, policies[0])
    keys = [(place, p) for place in range(len(cases)) for p in range(len(policies)) for _ in session.seeds]
    cells = [
        Cell(policy.text, policy, case.scenario, seed)
        for case in cases
        for policy in policies
        for seed in session.seeds
    ]
    marks = [{"workload": cases[place].workload, "gpu": cases[place].gpu, "part": "policies"} for place, _ in keys]
    runs: dict[tuple[int, int], list[Outcome]] = {}
    for key, outcome in zip(keys, session.runs(cells, "policies", marks), strict=True):
        runs.setdefault(key, []).append(outcome)
    rows = rows_of(cases, policies, runs)
    about = {"cases": [{**case.scenario.describe(), "gpu": case.gpu, "rate": case.rate} for case in cases]}
    heading = f"Policies under the rules of vLLM 0.32: {len(cases)} cases, {options.seeds} seeds"
    tables = [*overview(cases, policies, rows), details(rows, options)]
    return Findings(heading, tables, about=about, notes=[rates(cases, options.share)])


EXPERIMENT = Experiment(
    "vllm_policies.py",
    "Compare the scheduling policies merged into, or proposed for, vLLM under one protocol.",
    add_options,
    find,
    run_options_parser,
)
