"""How far the schedulers are from the best possible, where that can be computed: ``python eval/optimum.py``.

The system of LLMSchedSmall-v0: one server, one queue, requests that are all alike, the mean number of requests in the
system as the cost.  Prints the optimum with its error bound, what it does, that its policy reaches it in the
simulator, and the gap of every baseline; with ``--out`` leaves results.csv, policy.csv, summary.json, manifest.json
and figures/structure.png.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python still imports: leave without a traceback
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of eval/, whose names are its own

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from llmsched.eval.best_possible.smdp import BatchQueue, Optimum, solve
from llmsched.eval.cli.options import add_run_options
from llmsched.eval.cli.parser import OneLineParser, refuse
from llmsched.eval.cli.progress import Progress
from llmsched.eval.cli.readers import number
from llmsched.eval.figures import comparison
from llmsched.eval.figures.optimum_figure import draw_structure
from llmsched.eval.report import artefacts
from llmsched.eval.report.textual import folded
from llmsched.eval.runs.intervals import Interval, interval
from llmsched.eval.runs.runner import Cell, SharedArrivals, as_finished, run_cell
from llmsched.eval.runs.scenario import Scenario
from llmsched.eval.runs.tune import VALIDATED, resolve
from llmsched.policies import Bound, Policy, parse_list
from llmsched.policies.registry import Decision, Floats, Record
from llmsched_env.envs.small import LOAD, MAX_BATCH, PROFILE, WORKLOAD, arrival_rate, service_s, simulation
from llmsched_env.workload.workload import Workload

PROGRAM = "optimum.py"
INTERRUPTED = 130
LEAST_LOAD, MOST_LOAD, MOST_BATCH = 0.1, 0.95, 16
"""What the solver was tried on."""

BASELINES = (
    "static,dynamic,multibin,multibin-fixed,timeout,adaptive-memory,window,priority,longest-queue,weighted-queue,sjf,"
    "edf,least-slack,aimd,random,oracle-sjf,multibin-fixed:batch=auto,timeout:batch=auto:wait=auto,adaptive-memory:wait=auto,"
    "window:every=auto,sjf:batch=auto,edf:batch=auto,oracle-sjf:batch=auto"
)
"""Every scheduler as it stands, and with its parameters chosen where it has any that matter here."""

OPTIMAL = "optimal"
"""Name of the solver's own policy in the table."""

BACKLOG = 0.02
"""A run at whose last arrival more than this share of all requests is in the system has a queue that grows."""


def tabulated(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The batch that a table gives for the number of waiting requests; its last entry holds for all longer queues."""
    return record.num_bins, int(params[min(record.waiting, len(params) - 1)])


def table_policy(name: str, sizes: Sequence[int] | np.ndarray) -> Bound:
    """A policy that launches ``sizes[q]`` of q waiting requests, 0: waits."""
    table = np.asarray(sizes, dtype=np.float64)
    return Policy(name, tabulated, "a table by queue length", load=lambda values, config: (table, 0)).bind()


@dataclass(frozen=True)
class System:
    """The queue, as the solver and as the simulator know it."""

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
class Run:
    """One run: ``in_system`` = rate x mean latency (Little), mean ``batch``, share of requests left at the last
    arrival."""

    policy: str
    seed: int
    in_system: float
    batch: float
    backlog: float


def measured(cell: Cell, arrivals: SharedArrivals) -> Run:
    """Simulate one cell.  Every request is served, and none is rejected: there is no memory limit."""
    result = run_cell(cell, arrivals.take(cell))
    rows, lane = result.requests, result.lane
    latency_s = float(np.mean(rows["completion"] - rows["arrival"]))
    backlog = float(np.mean(rows["completion"] > rows["arrival"][-1]))
    batch = float(lane["launched"]) / float(lane["batches"])
    return Run(cell.label, cell.seed, cell.scenario.workload.mean_rate * latency_s, batch, backlog)


def simulated(entrants: Sequence[tuple[Bound, Scenario]], seeds: Sequence[int], jobs: int) -> dict[str, list[Run]]:
    """Runs by policy, in order of the seeds, on common arrivals."""
    cells = [Cell(policy.label, policy, scenario, seed) for seed in seeds for policy, scenario in entrants]
    arrivals = SharedArrivals(cells)

    def task(cell: Cell) -> Callable[[], Run]:
        return lambda: measured(cell, arrivals)

    found: dict[str, list[Run]] = {policy.label: [] for policy, _ in entrants}
    with Progress("simulating", len(cells)) as progress:
        for run in as_finished([task(cell) for cell in cells], jobs):
            found[run.policy].append(run)
            progress.step(run.policy)
    return {name: sorted(runs, key=lambda run: run.seed) for name, runs in found.items()}


def row(policy: Bound, runs: Sequence[Run], best: Sequence[Run], optimum: Optimum) -> dict[str, Any]:
    """What is printed and kept of a policy; without numbers where its queue grows.

    The gap is to g* for the optimal policy itself, and paired with its runs ``best`` for the others: those have the
    mean g*, and the same arrivals, so the difference is known far better than either.
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


def told(system: System, optimum: Optimum, rows: Sequence[dict[str, Any]], seeds: Sequence[int]) -> list[str]:
    """The lines to print."""
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
    return [folded(line) for line in lines] + ["", *table(rows), "", *(folded(note) for note in notes(system, seeds))]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line per policy, the best first."""
    width = max(len(found["policy"]) for found in rows)
    lines = [f"{'policy':<{width}}  {'in system':>17}  {'above g*, %':>16}  {'latency, s':>10}  {'batch':>6}"]
    lines.append("-" * len(lines[0]))
    for found in sorted(rows, key=lambda found: found["in_system"]):
        level = _pm(found["in_system"], found["in_system_ci95"], 4)
        gap = _pm(found["gap_percent"], found["gap_percent_ci95"], 2, "+")
        cells = f"{level:>17}  {gap:>16}  {found['mean_latency_s']:>10.3f}  {found['mean_batch']:>6.2f}"
        if found["grows"]:
            cells = f"{'grows':>17}  {'-':>16}  {'-':>10}  {found['mean_batch']:>6.2f}"
        lines.append(f"{found['policy']:<{width}}  {cells}")
    return lines


def _pm(mean: float, half: float | None, digits: int, sign: str = "") -> str:
    return f"{mean:{sign}.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def notes(system: System, seeds: Sequence[int]) -> list[str]:
    """What the table means."""
    spread = "± 95 % interval (Student t over seeds)." if len(seeds) > 1 else "One seed: no interval; give --seeds 10."
    return [
        f"{system.requests:,} requests x {len(seeds)} seeds, the same arrivals for every policy. {spread}",
        "in system: arrival rate x mean latency (Little). above g*: the simulated optimum against the computed one; "
        "the others against the simulated one, paired by seed.",
        "grows: more work comes than the policy gets done, its queue has no mean. The SLA controller's target stays at "
        "max_batch - alpha / 2 (alpha = 16) or below: it is not made for such small batches.",
    ]


def options_from(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line, or exit 2 with one line."""
    parser = OneLineParser(
        PROGRAM, description="The optimum of LLMSchedSmall-v0, and the gap of every scheduler to it."
    )
    add = parser.add_argument_group("system").add_argument
    add("--load", type=number(LEAST_LOAD, MOST_LOAD), default=LOAD, metavar="X", help=f"load (default {LOAD})")
    add("--max-batch", type=number(1, MOST_BATCH, whole=True), default=MAX_BATCH, metavar="B", help="largest batch")
    add("--policies", default=BASELINES, metavar="LIST", help="names, with parameters after colons (default: all)")
    size = number(1000, 1e8, whole=True)
    add("--requests", type=size, default=200_000, metavar="N", help="requests per seed (default 200000)")
    add_run_options(parser)
    parser.set_defaults(seeds=10)
    return parser.read(argv)


def keep(folder: Path, summary: dict[str, Any], optimum: Optimum, runs: Sequence[Run], about: dict[str, Any]) -> None:
    """Write the files of ``--out``."""
    lines = ["policy,seed,in_system,mean_batch,backlog"]
    lines += [f"{r.policy},{r.seed},{r.in_system!r},{r.batch!r},{r.backlog!r}" for r in runs]
    artefacts.write_text(folder / "results.csv", "\n".join(lines) + "\n")
    lines = ["queue,batch", *(f"{q},{size}" for q, size in enumerate(optimum.policy))]
    artefacts.write_text(folder / "policy.csv", "\n".join(lines) + "\n")
    artefacts.write_text(folder / "summary.json", artefacts.as_json(summary) + "\n")
    artefacts.write_text(folder / "manifest.json", artefacts.as_json(about) + "\n")
    if comparison.available():
        (folder / "figures").mkdir(exist_ok=True)
        draw_structure(optimum, folder / "figures" / "structure.png")
    else:
        print(comparison.HINT, file=sys.stderr)


def compute(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Solve, simulate, print, keep; the exit code."""
    began, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    folder = Path(options.out) if options.out else None
    seeds = range(options.seed, options.seed + options.seeds)
    try:
        if folder is not None:
            artefacts.prepare(folder)
        asked = parse_list(options.policies)
        system = System(options.load, options.max_batch, options.requests)
        optimum = solve(system.queue)
        entrants = resolve(asked, system.scenario, options.jobs)
        pairs = [(table_policy(OPTIMAL, optimum.policy), system.scenario)]
        pairs += [(entrant.policy, entrant.scenario) for entrant in entrants]
        runs = simulated(pairs, seeds, options.jobs)
    except ValueError as error:
        refuse(PROGRAM, str(error))
    rows = [row(policy, runs[policy.label], runs[OPTIMAL], optimum) for policy, _ in pairs]
    chosen = [f"{e.label} -> {e.policy.text} ({VALIDATED})" for e in entrants if e.chosen]
    found = {
        "in_system": optimum.cost,
        "error": optimum.error,
        "mean_latency_s": optimum.latency_s,
        "control_limit": optimum.limit,
        "batch_by_queue_length": optimum.policy.tolist(),
    }
    remarks = [f"Chosen: {text}." for text in chosen]
    described = system.describe() | {"seeds": list(seeds)}
    summary = {"system": described, "optimum": found, "policies": rows, "notes": remarks}
    if options.json:
        print(artefacts.as_json(summary))
    else:
        print("\n".join(told(system, optimum, rows, seeds)))
        print("\n".join(folded(note) for note in remarks))
    if folder is not None:
        command = ["python", "eval/optimum.py", *argv]
        about = artefacts.manifest(command, seeds, began, time.monotonic() - clock)
        keep(folder, summary, optimum, [run for found in runs.values() for run in found], about)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return compute(options_from(arguments), arguments)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main()
    sys.stdout.flush()
    if code == INTERRUPTED:
        os._exit(code)  # not waiting for the runs that go on in threads
    sys.exit(code)
