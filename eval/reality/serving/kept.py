"""Runs that eval/real.py has kept: their figures and their table over numbers of requests.

``python eval/real_figures.py real --out shown``; nothing is run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.figures.serving import ServedRuns, served_drawings
from llmsched.eval.reality.serving.client import Served, from_row
from llmsched.eval.reality.serving.measures import completed, measures
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.line_store import LineStore
from llmsched_env.config import SLO

PROGRAM = "real_figures.py"
FILE = "real.jsonl"
ALIKE = ("workload", "rate", "rate_scale", "concurrency", "sessions")
"""What runs must have in common to stand in one figure, by its key in the description of a scenario."""

COLUMNS = (
    Column("policy", "policy"),
    Column("requests", "requests", digits=0),
    Column("repeats", "repeats", digits=0),
    Column("failed", "failed", "%", 1, 100.0, best=-1),
    Column("mean_ttft_s", "TTFT mean", "ms", 0, 1e3, best=-1),
    Column("throughput", "throughput", "req/s", 2, best=1),
    Column("mean_e2e_s", "E2E mean", "s", 3, best=-1),
    *(Column(f"{p}_e2e_s", f"E2E {p}", "s", 3, best=-1) for p in ("p50", "p95", "p99")),
)


@dataclass(frozen=True)
class Run:
    """A run that was kept: its policy, its repeat, what the client saw, and what it was run with."""

    policy: str
    repeat: int
    rows: Sequence[Served]
    setting: str


def run_from(row: Mapping[str, Any]) -> Run:
    """The run of a line of the file."""
    about = row["scenario"]
    setting = json.dumps({key: about.get(key) for key in ALIKE} | {"facts": row.get("facts")}, sort_keys=True)
    return Run(str(row["policy"]), int(row["repeat"]), from_row(row["rows"]), setting)


def read_runs(places: Sequence[Path]) -> list[Run]:
    """All runs in folders of ``--out``; ``ValueError`` in one line where there are none."""
    found: list[Run] = []
    for place in places:
        file = place / FILE
        if not file.exists():
            raise ValueError(f"{str(place)!r}: there is no {FILE}: give a folder of --out of real.py.")
        store = LineStore(file)
        kept = [store.get(key, run_from) for key in store]
        found += [run for run in kept if run is not None]
    if not found:
        raise ValueError(f"{', '.join(map(str, places))}: no run is kept there.")
    return found


def check_alike(runs: Sequence[Run]) -> None:
    """``ValueError`` where a policy was run twice at the same place, or runs are of several workloads or rates."""
    shared = {json.dumps({key: json.loads(run.setting)[key] for key in ALIKE}) for run in runs}
    if len(shared) > 1:
        raise ValueError(f"the runs are of {len(shared)} workloads or rates: give a folder for each to real.py --out.")
    places = [(run.policy, len(run.rows), run.repeat) for run in runs]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{twice[0]}, {twice[1]} requests, repeat {twice[2]} was run twice, with other settings: give a folder for "
            "each to real.py --out."
        )


def served_runs(title: str, runs: Sequence[Run]) -> ServedRuns:
    """Runs by policy and number of requests, as the figures take them."""
    groups: dict[tuple[str, int], list[Sequence[Served]]] = {}
    for run in runs:
        groups.setdefault((run.policy, len(run.rows)), []).append(run.rows)
    metrics, latencies = {}, {}
    for place, own in groups.items():
        values = [measures(rows, [SLO()], [0] * len(rows)) for rows in own]
        metrics[place] = {key: interval([one[key] for one in values]) for key in values[0]}
        seen = [row.last - row.due for rows in own for row, done in zip(rows, completed(rows), strict=True) if done]
        latencies[place] = np.array(seen)
    labels = list(dict.fromkeys(run.policy for run in runs))
    return ServedRuns(title, labels, sorted({count for _, count in groups}), metrics, latencies)


def table_of(shown: ServedRuns, repeats: Mapping[tuple[str, int], int]) -> Table:
    """The numbers of the figures."""
    rows: list[dict[str, Any]] = [
        {"policy": label, "requests": count, "repeats": repeats[label, count], **shown.metrics[label, count]}
        for count in shown.counts
        for label in shown.labels
        if (label, count) in shown.metrics
    ]
    note = "Latencies are of completed requests, from the time they were due. ± 95 % interval over repeats."
    return Table("served", "By number of requests", COLUMNS, rows, note)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The folders to read and the one to write."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of --out of real.py")
    parser.add_argument("--out", metavar="DIR", required=True, help="write figures and table there")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON and nothing else")


def find(session: Session) -> Findings:
    """Read, count, draw."""
    options = session.options
    if Path(options.out).resolve() in [folder.resolve() for folder in options.folders]:
        raise ValueError(f"--out {str(options.out)!r} is a folder that is read: give another.")
    runs = read_runs(options.folders)
    check_alike(runs)
    about = json.loads(runs[0].setting)
    title = f"{about['workload']} at {about['rate']:g} requests/s" if about.get("rate") else str(about["workload"])
    shown = served_runs(title, runs)
    repeats = {place: sum((run.policy, len(run.rows)) == place for run in runs) for place in shown.metrics}
    table = table_of(shown, repeats)
    return Findings(f"real_figures: {len(runs)} runs of {title}", [table], served_drawings(shown), {})


EXPERIMENT = Experiment(
    PROGRAM, "Figures of kept runs on real engines, over the number of requests.", add_options, find, plain_parser
)
