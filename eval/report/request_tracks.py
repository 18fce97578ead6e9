"""The requests of a run as tracks of a Chrome trace: waiting, prefill, decode, held by the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmsched_env.core.constants import ABANDONED, COMPLETED, DROPPED, PENDING, REFUSED, REJECTED
from llmsched_env.simulation.result import RunResult

GRID = 8
"""Times are written in whole parts of a microsecond, so many to one.

Sums and differences are exact then, in floating point and in the whole nanoseconds that viewers make of them: what ends
when another thing begins does not seem to overlap it, and a viewer throws nothing away.
"""

SHOWN = 2_000
"""Requests of a run that have a track, the first ones: a viewer shows no more at once, and a file stays small."""

PHASES = ("waiting", "prefill", "decode", "done, held by the batch")
"""Between arrival, first dispatch, first token, last token and release.  What a preemption makes a request wait for
again is part of the phase in which it happened; the last phase is that of the engine `batch`."""

ENDS = {COMPLETED: "completed", DROPPED: "dropped", REFUSED: "refused", ABANDONED: "abandoned"}
"""What became of a request; any other is unfinished."""


def microseconds(seconds: ArrayLike) -> Any:
    """Times as the format has them, on the grid: float64, in the shape of ``seconds``."""
    return np.rint(1e6 * GRID * np.asarray(seconds, np.float64)) / GRID


def request_events(process: int, result: RunResult) -> list[dict[str, Any]]:
    """Asynchronous events of the first SHOWN requests that waited, as of process number ``process``.

    One from arrival to the end of each, and inside of it one for each phase that took time.
    """
    rows, now = result.requests, float(result.lane["now"])
    came = np.flatnonzero((rows["status"] != PENDING) & (rows["status"] != REJECTED))[:SHOWN]
    return [event for number in came for event in _events(process, int(number), rows[number], now)]


def _events(process: int, number: int, row: np.void, now: float) -> list[dict[str, Any]]:
    gone = [float(row[name]) for name in ("completion", "left") if math.isfinite(row[name])]
    end = min([*gone, now])
    common = {"cat": "request", "id": f"{process}.{number}", "pid": process, "tid": process}
    about = {
        "number": number,
        "prompt_tokens": int(row["prompt"]),
        "output_tokens": int(row["output"]),
        "predicted_tokens": int(row["predicted"]),
        "bin": int(row["bin"]),
        "slo_class": int(row["slo_class"]),
        "preemptions": int(row["preemptions"]),
        "end": ENDS.get(int(row["status"]), "unfinished"),
    }
    found = [_event("b", "request", microseconds(row["arrival"]), common, about)]
    for name, begin, stop in _phases(row, end):
        found += [_event("b", name, begin, common), _event("e", name, stop, common)]
    return [*found, _event("e", "request", microseconds(end), common)]


def _phases(row: np.void, end: float) -> list[tuple[str, float, float]]:
    """(name, begin, end) in microseconds of the phases that took time; a stamp that is missing is the end."""
    stamps = [float(row["arrival"])]
    for name in ("dispatch", "first_token", "last_token"):
        stamps.append(min(float(row[name]), end) if math.isfinite(row[name]) else end)
    stamps.append(end)
    times = microseconds(stamps).tolist()
    return [
        (name, begin, stop) for name, begin, stop in zip(PHASES, times[:-1], times[1:], strict=True) if stop > begin
    ]


def _event(
    kind: str, name: str, time: float, common: dict[str, Any], about: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"name": name, "ph": kind, "ts": float(time), **common, **({"args": about} if about else {})}
