"""How far every scheduler is from the best possible, where that can be computed: ``python eval/optimum.py``.

The system of LLMSchedSmall-v0: one server, one queue, requests that are all alike; the cost is the mean number of
requests in the system.  Prints the optimum with its error bound, its policy, the cost of that policy in the simulator,
and the gap of every baseline; with ``--out`` leaves results.csv, policy.csv, summary.json, manifest.json and
figures/structure.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmsched.eval.best_possible.smdp import BatchQueue, Optimum, solve
from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, run_options_parser
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number
from llmsched.eval.figures.optimum import draw_structure
from llmsched.eval.report.text import align, column_widths, fold, rule
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.runner import Cell, SharedArrivals, run_cell, run_tasks
from llmsched.eval.runs.tune import VALIDATED, resolve
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound, Policy
from llmsched.policies.registry import Decision, Floats, Record
from llmsched.policies.selection import check_labels
from llmsched_env.envs.small import LOAD, MAX_BATCH, PROFILE, WORKLOAD, arrival_rate, service_s, simulation
from llmsched_env.workload.workload import Workload

LEAST_LOAD, MOST_LOAD, MOST_BATCH = 0.1, 0.95, 16
"""The range in which the solver is known to converge."""

BASELINES = (
    "static,dynamic,multibin,multibin-fixed,timeout,adaptive-memory,window,priority,longest-queue,weighted-queue,sjf,"
    "edf,least-slack,aimd,random,oracle-sjf,multibin-fixed:batch=auto,timeout:batch=auto:wait=auto,adaptive-memory:wait=auto,"
    "window:every=auto,sjf:batch=auto,edf:batch=auto,oracle-sjf:batch=auto"
)
"""Every scheduler with its defaults, and once more with the best parameters where some matter here."""

OPTIMAL = "optimal"
"""Name of the solver's policy in the table."""

BACKLOG = 0.02
"""The queue of a run grows without bound where more than this share of all requests is in the system at the end."""


LEAST_WIDTHS = (0, 17, 16, 10, 6)
"""Of the columns of the table."""


def decide_by_table(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The batch size of a table by the number of waiting requests; its last entry holds for all longer queues."""
    return record.num_bins, int(params[min(record.waiting, len(params) - 1)])


def table_policy(name: str, sizes: Sequence[int] | np.ndarray) -> Bound:
    """A policy that launches ``sizes[q]`` of q waiting requests; 0: it waits."""
    table = np.asarray(sizes, dtype=np.float64)
    return Policy(name, decide_by_table, "a table by queue length", load=lambda values, config: (table, 0)).bind()


@dataclass(frozen=True)
class System:
    """The queue, for the solver and for the simulator."""

    load: float
    max_batch: int
    requests: int

    @property
    def queue(self) -> BatchQueue:
        """Its rate and service times."""
        return BatchQueue(arrival_rate(self.load, self.max_batch), tuple(service_s(self.max_batch).tolist()))

    @property
    def scenario(self) -> Scenario:
        """The same for the runs of eval."""
        rate = self.queue.rate
        workload = Workload(WORKLOAD, requests=self.requests, rate=rate, predictor="oracle")
        return Scenario("small", simulation(self.max_batch), workload, WORKLOAD, PROFILE.name, "one bin")

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        queue = self.queue
        return {
            "load": self.load,
            "max_batch": self.max_batch,
            "rate": queue.rate,
            "service_s": list(queue.service_s),
            "requests": self.requests,
        }


@dataclass(frozen=True)
class SystemRun:
    """One run: ``in_system``, rate x mean latency (Little's law); mean ``batch``; ``backlog``, the share of all
    requests that is in the system at the last arrival."""

    policy: str
    seed: int
    in_system: float
    batch: float
    backlog: float


def measure_cell(cell: Cell, arrivals: SharedArrivals) -> SystemRun:
    """Simulate one cell.  Every request is served, and none is rejected: there is no memory limit."""
    result = run_cell(cell, arrivals.take(cell))
    rows, counts = result.requests, result.counts
    latency_s = float(np.mean(rows["completion"] - rows["arrival"]))
    backlog = float(np.mean(rows["completion"] > rows["arrival"][-1]))
    batch = float(counts["launched"]) / float(counts["batches"])
    return SystemRun(cell.label, cell.seed, cell.scenario.workload.mean_rate * latency_s, batch, backlog)


def simulate_policies(
    entrants: Sequence[tuple[Bound, Scenario]], seeds: Sequence[int], jobs: int
) -> dict[str, list[SystemRun]]:
    """Runs by policy, in order of the seeds, on common arrivals."""
    cells = [Cell(policy.label, policy, scenario, seed) for seed in seeds for policy, scenario in entrants]
    arrivals = SharedArrivals(cells)

    def task(cell: Cell) -> Callable[[], SystemRun]:
        return lambda: measure_cell(cell, arrivals)

    found: dict[str, list[SystemRun]] = {policy.label: [] for policy, _ in entrants}
    with Progress("simulating", len(cells)) as progress:
        for run in run_tasks([task(cell) for cell in cells], jobs):
            found[run.policy].append(run)
            progress.step(run.policy)
    return {name: sorted(runs, key=lambda run: run.seed) for name, runs in found.items()}


def policy_row(policy: Bound, runs: Sequence[SystemRun], best: Sequence[SystemRun], optimum: Optimum) -> dict[str, Any]:
    """The row of a policy in the table and in summary.json; without numbers where its queue grows.

    The gap of the optimal policy is that to g*.  The gap of the others is paired with the runs ``best`` of the optimal
    one: their mean is g* and their arrivals are the same, so the difference has far less noise than either.
    """
    grows = max(run.backlog for run in runs) > BACKLOG
    nothing = Interval(float("inf"), None)
    level = nothing if grows else interval([run.in_system for run in runs])
    base = [optimum.cost] * len(runs) if policy.label == OPTIMAL else [run.in_system for run in best]
    gap = interval([100.0 * (run.in_system - other) / optimum.cost for run, other in zip(runs, base, strict=True)])
    gap = nothing if grows else gap
    return {
        "policy": policy.label,
        "parameters": policy.text,
        "grows": grows,
        "in_system": level.mean,
        "in_system_ci95": level.half,
        "gap_percent": gap.mean,
        "gap_percent_ci95": gap.half,
        "mean_latency_s": level.mean / optimum.queue.rate,
        "mean_batch": interval([run.batch for run in runs]).mean,
    }


@dataclass(frozen=True, kw_only=True)
class OptimumFindings(Findings):
    """The findings: the system, its optimum, ``policies`` (a row per policy), and the ``runs`` of all policies."""

    system: System
    optimum: Optimum
    policies: Sequence[dict[str, Any]]
    runs: Sequence[SystemRun]

    def text(self, notes: Sequence[str]) -> str:
        """The optimum, the table, how to read it."""
        remarks = [fold(note) for note in self.remarks(notes)]
        return "\n".join([self.heading, "", *table_lines(self.policies), "", *remarks])

    def remarks(self, notes: Sequence[str]) -> list[str]:
        """How to read the table, then the notes."""
        seeds = {run.seed for run in self.runs}
        return [*notes_on_table(self.system, len(seeds)), *notes]

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> dict[str, Any]:
        """System, optimum, policies."""
        system = self.system.describe() | {"seeds": list(seeds)}
        optimum = {
            "in_system": self.optimum.cost,
            "error": self.optimum.error,
            "mean_latency_s": self.optimum.latency_s,
            "control_limit": self.optimum.limit,
            "batch_by_queue_length": self.optimum.policy.tolist(),
        }
        return {"system": system, "optimum": optimum, "policies": list(self.policies), "notes": list(notes)}

    def files(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """A row per run, and the optimal policy."""
        runs = ["policy,seed,in_system,mean_batch,backlog"]
        runs += [f"{r.policy},{r.seed},{r.in_system!r},{r.batch!r},{r.backlog!r}" for r in self.runs]
        policy = ["queue,batch", *(f"{q},{size}" for q, size in enumerate(self.optimum.policy))]
        return {"results.csv": "\n".join(runs) + "\n", "policy.csv": "\n".join(policy) + "\n"}


def heading_of(system: System, optimum: Optimum) -> str:
    """The system, its optimum and the optimal policy, above the table."""
    first, last = optimum.queue.service_s[0], optimum.queue.service_s[-1]
    shown = ", ".join(f"{q}: {size or 'wait'}" for q, size in enumerate(optimum.policy[: system.max_batch + 3]) if q)
    form = "another form" if optimum.limit is None else f"a control limit of {optimum.limit}"
    lines = [
        f"One server, batches to {system.max_batch} ({first:g} s for one, {last:g} s for a full one), Poisson arrivals "
        f"at {optimum.queue.rate:.4g} requests/s: load {system.load:g}.",
        f"Optimum g* = {optimum.cost:.8f} requests in the system (error below {optimum.error:.1g}, queues of any "
        f"length included; value iteration, {optimum.steps} steps), mean latency {optimum.latency_s:.6g} s.",
        f"Best batch by queue length: {shown}, then {system.max_batch}: {form}.",
    ]
    return "\n".join(fold(line) for line in lines)


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table, a line per policy, the best first."""
    cells = [["policy", "in system", "above g*, %", "latency, s", "batch"]]
    for row in sorted(rows, key=lambda row: row["in_system"]):
        batch = f"{row['mean_batch']:.2f}"
        if row["grows"]:
            cells.append([row["policy"], "grows", "-", "-", batch])
            continue
        level = _plus_minus(row["in_system"], row["in_system_ci95"], 4)
        gap = _plus_minus(row["gap_percent"], row["gap_percent_ci95"], 2, "+")
        cells.append([row["policy"], level, gap, f"{row['mean_latency_s']:.3f}", batch])
    widths = column_widths(cells, LEAST_WIDTHS)
    head, *body = [align(row, widths, [True, False, False, False, False]) for row in cells]
    return [head, rule(widths), *body]


def _plus_minus(mean: float, half: float | None, digits: int, sign: str = "") -> str:
    return f"{mean:{sign}.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def notes_on_table(system: System, seeds: int) -> list[str]:
    """How to read the table."""
    spread = "± 95 % interval (Student t over seeds)." if seeds > 1 else "One seed: no interval; give --seeds 10."
    return [
        f"{system.requests:,} requests x {seeds} seeds, the same arrivals for every policy. {spread}",
        "in system: arrival rate x mean latency (Little). above g*: the simulated optimum against the computed one; "
        "the others against the simulated one, paired by seed.",
        "grows: more work comes than the policy gets done, its queue has no mean. The SLA controller's target stays at "
        "max_batch - alpha / 2 (alpha = 16) or below: it is not made for such small batches.",
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("system").add_argument
    add("--load", type=number(LEAST_LOAD, MOST_LOAD), default=LOAD, metavar="X", help=f"load (default {LOAD})")
    add("--max-batch", type=number(1, MOST_BATCH, whole=True), default=MAX_BATCH, metavar="B", help="largest batch")
    add("--policies", default=BASELINES, metavar="LIST", help="names, with parameters after colons (default: all)")
    size = number(1000, 1e8, whole=True)
    add("--requests", type=size, default=200_000, metavar="N", help="requests per seed (default 200000)")
    parser.set_defaults(seeds=10)


def find(session: Session) -> Findings:
    """Solve, then simulate every policy."""
    options = session.options
    requested = session.policies(options.policies)
    system = System(options.load, options.max_batch, options.requests)
    optimum = solve(system.queue)
    best = table_policy(OPTIMAL, optimum.policy)
    check_labels([best, *requested])
    entrants = resolve(requested, system.scenario, options.jobs)
    pairs = [(best, system.scenario)]
    pairs += [(entrant.policy, entrant.scenario) for entrant in entrants]
    runs = simulate_policies(pairs, session.seeds, options.jobs)
    session.notes += [f"Chosen: {e.label} -> {e.policy.text} ({VALIDATED})." for e in entrants if e.choice]
    return OptimumFindings(
        heading=heading_of(system, optimum),
        drawings={"structure": lambda: draw_structure(optimum)},
        system=system,
        optimum=optimum,
        policies=[policy_row(policy, runs[policy.label], runs[OPTIMAL], optimum) for policy, _ in pairs],
        runs=[run for own in runs.values() for run in own],
    )


EXPERIMENT = Experiment(
    "optimum.py",
    "The optimum of LLMSchedSmall-v0, and the gap of every scheduler to it.",
    add_options,
    find,
    run_options_parser,
)
