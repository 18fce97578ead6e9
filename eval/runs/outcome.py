"""What tables and figures need of one run of one policy under one seed; small, however long the run was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.layout import COMPLETED, ITL_BINS, PENDING, REJECTED
from llmsched_env.simulation.metrics import (
    PER_REQUEST,
    STATISTICS,
    Accumulator,
    count_log_bins,
    seen_by_clients,
    summarize,
)
from llmsched_env.simulation.result import RunResult

TIMELINE_POINTS = 600

RATES = ("request_goodput", "request_throughput", "output_throughput", "total_token_throughput")
"""Keys of a summary that are per second of ``duration_s``."""


@dataclass(frozen=True)
class Timeline:
    """State of a run at N regular times: ``time_s`` (N,); requests ``waiting`` (N,) for their first dispatch; ``batch``
    (N,), the mean size of the running batches (0: all servers idle).  Times count from the first arrival."""

    time_s: NDArray[np.float64]
    waiting: NDArray[np.int64]
    batch: NDArray[np.float64]
    last_arrival_s: float


@dataclass(frozen=True)
class Outcome:
    """A run: policy and seed; ``summary`` (metrics.KEYS); ``latency_counts`` (3, ITL_BINS), completed requests by TTFT,
    TPOT and E2E latency (metrics.PER_REQUEST) in the log bins of ``metrics.log_bin_ends``; a timeline where the cell
    asks for one."""

    policy: str
    seed: int
    summary: Mapping[str, Any]
    latency_counts: NDArray[np.int64]
    timeline: Timeline | None = None


def outcome_of(policy: str, seed: int, result: RunResult, *, timeline: bool = False, end: int | None = None) -> Outcome:
    """Reduce a run.  ``timeline`` needs logged batches; requests from number ``end`` on are not scored."""
    scored = result.requests[result.warmup : end]
    counts = np.zeros((len(PER_REQUEST), ITL_BINS), np.int64)
    latency, _ = seen_by_clients(scored[scored["status"] == COMPLETED], result.config)
    for row, values in enumerate(latency):
        count_log_bins(values, counts[row])
    summary = summarize(result) if end is None or end >= len(result.requests) else summary_until(result, end)
    return Outcome(policy, seed, summary, counts, timeline_of(result) if timeline else None)


def summary_until(result: RunResult, end: int) -> dict[str, Any]:
    """The summary of the requests before number ``end``; the server metrics cover the whole run.

    Rates are per second of the time in which the scored requests arrived: the last of them may complete long after
    it, while others are served.  Inter-token latencies, which a run counts for all requests, are undefined.
    """
    summary = summarize(replace(result, requests=result.requests[:end]))
    arrival = result.requests["arrival"]
    window_s = float(arrival[end] - arrival[result.warmup])
    stretch = summary["duration_s"] / window_s if window_s > 0 else np.nan
    for key in RATES:
        summary[key] *= stretch
    for statistic in STATISTICS:
        summary[f"{statistic}_itl_ms"] = np.nan
    return {**summary, "duration_s": window_s}


def outcome_of_stream(policy: str, seed: int, pieces: Iterable[RunResult]) -> Outcome:
    """Reduce a run that comes in pieces (streaming.simulate_stream); percentiles are exact to 0.5 %."""
    totals = Accumulator()
    for piece in pieces:
        totals.add(piece)
    return Outcome(policy, seed, totals.summary(), totals.histograms.copy())


def timeline_of(result: RunResult, points: int = TIMELINE_POINTS) -> Timeline:
    """Sample the queue and the running batches at ``points`` times from the first arrival to the end."""
    requests, batches = result.requests, result.batches
    time = np.linspace(float(requests["arrival"].min()), float(result.lane["now"]), points)
    gone = np.fmin(requests["dispatch"], requests["left"])
    left = np.sort(gone[np.isfinite(gone)])
    entered = np.sort(requests["arrival"][_ever_waited(requests)])
    waiting = np.searchsorted(entered, time, side="right") - np.searchsorted(left, time, side="right")
    started, ended = np.argsort(batches["start"]), np.argsort(batches["end"])
    running, members = np.zeros(points), np.zeros(points)
    for order, stamp, sign in ((started, "start", 1), (ended, "end", -1)):
        place = np.searchsorted(batches[stamp][order], time, side="right")
        running += sign * place
        members += sign * np.concatenate([[0], np.cumsum(batches["size"][order])])[place]
    mean = np.divide(members, running, out=np.zeros(points), where=running > 0)
    return Timeline(time - time[0], waiting, mean, float(requests["arrival"].max()) - time[0])


def _ever_waited(requests: NDArray) -> NDArray[np.bool_]:
    """Arrived and not rejected: every request that was dispatched or still waits."""
    return (requests["status"] != PENDING) & (requests["status"] != REJECTED)
