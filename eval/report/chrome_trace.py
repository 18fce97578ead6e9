"""Batches and requests as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

A process per policy, a thread per server with a slice per batch, a counter of the waiting requests, and a track per
request with its phases (llmsched.eval.report.request_tracks).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.report.request_tracks import SHOWN, microseconds, request_events
from llmsched.eval.runs.runner import Cell, SharedArrivals, run_cell
from llmsched_env.core.layout import PENDING, REJECTED
from llmsched_env.files.writing import write_text
from llmsched_env.simulation.result import RunResult


def write_timeline(cells: Sequence[Cell], path: Path) -> None:
    """Run ``cells`` again with their batches logged, and write all of them into one trace at ``path``."""
    logged = [Cell(c.label, c.policy, c.scenario, c.seed, c.split, timeline=True) for c in cells]
    arrivals = SharedArrivals(logged)
    events = []
    for number, cell in enumerate(logged, start=1):
        events += events_of(number, f"{cell.label}, seed {cell.seed}", run_cell(cell, arrivals.take(cell)))
    events.sort(key=lambda event: event["ph"] != "M")  # names first: a viewer gives them to threads that it knows
    text = ",\n".join(json.dumps(event, separators=(",", ":"), allow_nan=False) for event in events)
    note = f"tracks of the first {SHOWN:,} requests of each run; batches and the counter are of all"
    head = f'"displayTimeUnit":"ms","otherData":{{"requests":"{note}"}}'
    write_text(path, f'{{{head},"traceEvents":[\n{text}\n]}}\n')


def events_of(process: int, name: str, result: RunResult) -> list[dict[str, Any]]:
    """The trace events of one run with logged batches, as process number ``process``."""
    events = [_name("process_name", process, process, name)]
    events += [_name("thread_name", process, _thread(process, k), f"server {k}") for k in range(len(result.servers))]
    for batch in result.batches[np.isfinite(result.batches["end"])]:
        kind = _kind(int(batch["choice"]), result.config.queueing.num_bins)
        start, end = microseconds([batch["start"], batch["end"]]).tolist()
        events.append(
            {
                "name": f"{kind}: {batch['size']}",
                "cat": kind,
                "ph": "X",
                "ts": start,
                "dur": end - start,
                "pid": process,
                "tid": _thread(process, int(batch["server"])),
                "args": {
                    "size": int(batch["size"]),
                    "preemptions": int(batch["preemptions"]),
                    "kv_peak_tokens": float(batch["kv_peak"]),
                },
            }
        )
    return [*events, *_waiting(process, result), *request_events(process, result)]


def _kind(choice: int, bins: int) -> str:
    """The choice of a batch; `running` in the engine `continuous`, whose running sets belong to no single bin."""
    if choice < 0:
        return "running"
    return "any" if choice == bins else f"bin {choice}" if choice < bins else "overdue"


def _waiting(process: int, result: RunResult) -> list[dict[str, Any]]:
    """A counter of the requests that wait for their first dispatch, a value per change."""
    rows = result.requests
    entered = rows["arrival"][(rows["status"] != PENDING) & (rows["status"] != REJECTED)]
    left = np.fmin(rows["dispatch"], rows["left"])
    left = left[np.isfinite(left)]
    times = microseconds(np.concatenate([entered, left]))
    order = np.argsort(times, kind="stable")
    steps = np.concatenate([np.ones(len(entered), np.int64), -np.ones(len(left), np.int64)])
    times, level = times[order], np.cumsum(steps[order])
    last = np.append(times[1:] != times[:-1], True) if len(times) else np.zeros(0, bool)
    common = {"name": "waiting requests", "ph": "C", "pid": process, "tid": process}
    return [
        {**common, "ts": time, "args": {"requests": number}}
        for time, number in zip(times[last].tolist(), level[last].tolist(), strict=True)
    ]


def _thread(process: int, server: int) -> int:
    """The number of a server's thread: no two of a file are equal, as in a real system, where viewers name threads by
    their numbers alone."""
    return 1000 * process + server


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
