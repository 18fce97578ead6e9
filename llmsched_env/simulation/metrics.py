"""The one definition of every metric; docs/reference/metrics.md says each in words, with formula and unit.

Everything is computed afterwards from the request records and the totals of a run.  ``summarize`` takes a
whole run and has exact percentiles; ``Accumulator`` takes a long run in chunks, with the same code for
every count and sum, and percentiles from histograms of 0.5 % bins.  Undefined values are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from llmsched_env.compiler.parts import fingerprint
from llmsched_env.config import SLO, SimConfig
from llmsched_env.core.itl import gap_bin, gap_edges
from llmsched_env.core.layout import (
    ABANDONED,
    COMPLETED,
    DROPPED,
    ITL_BINS,
    ITL_LOW_S,
    ITL_RATIO,
    PENDING,
    REFUSED,
    REJECTED,
)
from llmsched_env.simulation.by_class import ByClass
from llmsched_env.simulation.result import RunResult

LATENCIES = ("ttft", "tpot", "itl", "e2el")
"""Latencies with a distribution each; all but ``itl`` have one value per request."""

PER_REQUEST = ("ttft", "tpot", "e2el")

STATISTICS = ("mean", "median", "std", "p95", "p99")

COUNTS = (
    *("submitted", "completed", "rejected", "dropped", "refused", "abandoned", "unfinished"),
    *("preemptions", "decisions"),
)
"""Keys that are counts: summed over seeds, where the others are averaged (and ``wall_s`` summed)."""

KEYS = (
    *COUNTS,
    *(
        "slo_attainment",
        "refused_share",
        "abandoned_share",
        "request_goodput",
        "request_throughput",
        "output_throughput",
        "total_token_throughput",
    ),
    *(f"{statistic}_{latency}_ms" for latency in LATENCIES for statistic in STATISTICS),
    *("mean_queue_ms", "mean_batch_size", "gpu_utilization", "peak_kv_utilization", "simulated_s", "wall_s"),
    *("duration_s", "longest_wait_ms", "jain_index", "worst_bin", "worst_bin_miss_rate", "per_bin", "per_class"),
)
"""Every key of a summary.  All are numbers but ``per_bin`` and ``per_class``, lists with a dictionary each."""

CACHE_COUNTS = ("cached_tokens", "recomputed_tokens", "evicted_blocks")
"""Counts that a summary has only with a prefix cache."""

CACHE_KEYS = ("prefix_cache_hit_rate", *CACHE_COUNTS)
"""Keys that a summary has only with a prefix cache, behind the others."""


def keys_of(config: SimConfig) -> tuple[str, ...]:
    """The keys of a summary of a run of ``config``."""
    return KEYS + CACHE_KEYS * (config.continuous.prefix_cache == "on")


_TTFT, _TPOT, _E2EL = range(len(PER_REQUEST))

_QUANTILES = (0.5, 0.95, 0.99)

_SUMS = np.dtype(  # what a tally adds up over scored requests
    [
        ("submitted", "i8"),
        ("completed", "i8"),
        ("rejected", "i8"),
        ("dropped", "i8"),
        ("refused", "i8"),
        ("abandoned", "i8"),
        ("met", "i8"),
        ("preemptions", "i8"),
        ("prompt_tokens", "f8"),  # of completed requests
        ("output_tokens", "f8"),
        ("queue_s", "f8"),  # first dispatch - arrival, over completed requests
        ("longest_wait_s", "f8"),
        ("first_arrival_s", "f8"),
        ("last_completion_s", "f8"),
    ],
    align=True,
)


def targets_of(slos: tuple[SLO, ...]) -> NDArray[np.float64]:
    """Array (classes, 3) of the TTFT, TPOT and E2E targets in seconds; inf: no target."""
    return np.array([(slo.ttft_s, slo.tpot_s, slo.e2e_s) for slo in slos], dtype=np.float64)


@njit(cache=True, nogil=True)
def measure(requests, targets):
    """Latencies of every request and whether it met its SLO.

    ``requests`` (N,) layout.REQUEST, ``targets`` (classes, 3) in seconds.  Returns ``latency`` (3, N),
    rows TTFT, TPOT, E2E in seconds, NaN where the request did not complete (and TPOT of one token), and
    ``met`` (N,) bool.  Times are compared as the simulator compares them: stamp <= arrival + target.
    """
    latency = np.full((3, len(requests)), np.nan)
    met = np.zeros(len(requests), np.bool_)
    for i in range(len(requests)):
        request = requests[i]
        if request["status"] != COMPLETED:
            continue
        arrival, first, last = request["arrival"], request["first_token"], request["last_token"]
        gaps = request["output"] - 1
        target = targets[request["slo_class"]]
        latency[_TTFT, i] = first - arrival
        latency[_E2EL, i] = request["completion"] - arrival
        met[i] = first <= arrival + target[_TTFT] and request["completion"] <= arrival + target[_E2EL]
        if gaps > 0:
            latency[_TPOT, i] = (last - first) / gaps
            met[i] = met[i] and last - first <= target[_TPOT] * gaps
    return latency, met


@njit(cache=True, nogil=True)
def _tally(requests, met, end_s, sums, per_bin):
    """Add the scored ``requests`` to ``sums`` ((1,) _SUMS) and ``per_bin`` ((2, bins): submitted, misses)."""
    total = sums[0]
    for i in range(len(requests)):
        request = requests[i]
        status = request["status"]
        if status == PENDING:  # had not arrived when the run was cut off
            continue
        total["submitted"] += 1
        total["met"] += met[i]
        total["preemptions"] += request["preemptions"]
        total["first_arrival_s"] = min(total["first_arrival_s"], request["arrival"])
        per_bin[0, request["bin"]] += 1
        per_bin[1, request["bin"]] += not met[i]
        if status == REJECTED:
            total["rejected"] += 1
            continue
        seen = request["dispatch"] if request["dispatch"] == request["dispatch"] else end_s
        if status in (REFUSED, ABANDONED):
            total["refused"] += status == REFUSED
            total["abandoned"] += status == ABANDONED
            seen = min(seen, request["left"])
        total["longest_wait_s"] = max(total["longest_wait_s"], seen - request["arrival"])
        if status == DROPPED:
            total["dropped"] += 1
        elif status == COMPLETED:
            total["completed"] += 1
            total["prompt_tokens"] += request["prompt"]
            total["output_tokens"] += request["output"]
            total["queue_s"] += seen - request["arrival"]
            total["last_completion_s"] = max(total["last_completion_s"], request["completion"])


def _entry(sources: str) -> Callable:
    """The compiled entry; ``sources`` (parts.fingerprint) is a closure variable and so part of its cache key."""

    @njit(cache=True, nogil=True)
    def count_log_bins(values, counts):
        """Count finite ``values`` (seconds) into ``counts`` (ITL_BINS,), the bins of core.itl.gap_bin.

        Returns their number, mean and sum of squared deviations from that mean.
        """
        sources  # noqa: B018
        number, total = 0, 0.0
        for value in values:
            if not np.isfinite(value):
                continue
            number += 1
            total += value
            counts[gap_bin(value)] += 1
        mean = total / number if number else 0.0
        deviation = 0.0
        for value in values:
            if np.isfinite(value):
                deviation += (value - mean) ** 2
        return number, mean, deviation

    return count_log_bins


count_log_bins = _entry(fingerprint())


def log_bin_ends() -> NDArray[np.float64]:
    """Upper ends (s) of the log bins of ``count_log_bins`` and of ``RunResult.itl_histogram``."""
    return gap_edges()


def histogram_quantile(counts: NDArray[np.int64], share: float) -> float:
    """Quantile in seconds, as np.percentile (linear), of values known to a bin, 0.5 %; NaN when empty."""
    total = int(counts.sum())
    if total == 0:
        return math.nan
    below, rank = np.cumsum(counts), share * (total - 1)
    low, high = (_order_statistic(counts, below, k) for k in (math.floor(rank), math.ceil(rank)))
    return low + (rank - math.floor(rank)) * (high - low)


def _order_statistic(counts: NDArray[np.int64], below: NDArray[np.int64], k: int) -> float:
    """The k-th smallest value (from 0): the m-th of n values in a bin stands at (m + 1/2)/n of its width."""
    place = int(np.searchsorted(below, k, side="right"))
    inside = (k - (below[place] - counts[place]) + 0.5) / counts[place]
    return ITL_LOW_S * ITL_RATIO ** (place - 1 + float(inside))


def seen_by_clients(requests: NDArray, config: SimConfig) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """``measure`` as the clients see it: tokens come later by the client offset that a profile may have."""
    latency, met = measure(requests, targets_of(config.server_slos))
    latency[[_TTFT, _E2EL]] += config.client_offset_s
    return latency, met


def meets_slo(result: RunResult) -> NDArray[np.bool_]:
    """Whether request i completed and met every target of its class (N,), the warm-up included."""
    return seen_by_clients(result.requests, result.config)[1]


def jain_index(values: NDArray[np.float64]) -> float:
    """Jain's fairness index (sum x)^2 / (n sum x^2): 1 all equal, 1/n one has all; NaN if all are 0."""
    square = float(np.sum(values**2))
    return float(np.sum(values)) ** 2 / (len(values) * square) if square > 0 else math.nan


class Accumulator:
    """Metrics of a run that comes in chunks: ``add`` each, then ``summary``.

    A chunk is a RunResult whose ``requests`` are records that no other chunk holds, while ``lane``,
    ``servers`` and ``itl_histogram`` are the totals since the start of the run, as the simulator keeps
    them (so those of the last chunk count) and ``wall_s`` is the time of this chunk.
    """

    def __init__(self) -> None:
        self.histograms = np.zeros((len(PER_REQUEST), ITL_BINS), np.int64)
        self._moments = np.zeros((len(PER_REQUEST), 3))  # number, mean, sum of squared deviations
        self._sums = np.zeros(1, _SUMS)
        self._sums["first_arrival_s"], self._sums["last_completion_s"] = np.inf, -np.inf
        self._per_bin = np.zeros((2, 1), np.int64)
        self._per_class: ByClass | None = None
        self._start_s = math.inf  # first arrival, the warm-up included
        self._wall_s = 0.0
        self._last: RunResult | None = None

    def add(self, result: RunResult) -> None:
        """Add a chunk; its first ``result.warmup`` requests are not scored."""
        if self._last is None:
            self._per_bin = np.zeros((2, result.config.queueing.num_bins), np.int64)
            self._per_class = ByClass(result.config.slos, PER_REQUEST)
        scored = result.requests[result.warmup :]
        latency, met = seen_by_clients(scored, result.config)
        _tally(scored, met, float(result.lane["now"]), self._sums, self._per_bin)
        if self._per_class is not None:
            self._per_class.add(scored, latency, met, count_log_bins)
        for row, values in enumerate(latency):
            self._merge(row, *count_log_bins(values, self.histograms[row]))
        if len(result.requests):
            self._start_s = min(self._start_s, float(result.requests["arrival"].min()))
        self._wall_s += result.wall_s
        self._last = result

    def _merge(self, row: int, number: int, mean: float, deviation: float) -> None:
        """Chan's update of mean and squared deviations: no cancellation, however many chunks."""
        old, old_mean, old_deviation = self._moments[row]
        total = old + number
        if number:
            gap = mean - old_mean
            new_mean = old_mean + gap * number / total
            self._moments[row] = total, new_mean, old_deviation + deviation + gap * gap * old * number / total

    def summary(self) -> dict:
        """The metrics of all chunks so far (KEYS), percentiles to 0.5 %."""
        return self._summary(self._estimates)

    def _estimates(self, row: int) -> tuple[float, ...]:
        number, mean, deviation = self._moments[row]
        if number == 0:
            return (math.nan,) * len(STATISTICS)
        median, p95, p99 = (histogram_quantile(self.histograms[row], share) for share in _QUANTILES)
        return mean, median, math.sqrt(deviation / number), p95, p99

    def _summary(self, statistics: Callable[[int], tuple[float, ...]]) -> dict:
        if self._last is None:
            raise ValueError("nothing was added: call add(result) at least once.")
        spread = {latency: statistics(row) for row, latency in enumerate(PER_REQUEST)}
        spread["itl"] = _itl_statistics(self._last)
        summary = self._totals(self._last) | self._fairness()
        for latency in LATENCIES:
            for name, value in zip(STATISTICS, spread[latency], strict=True):
                summary[f"{name}_{latency}_ms"] = 1000.0 * float(value)
        return {key: summary[key] for key in KEYS} | _cache(self._last)

    def _totals(self, last: RunResult) -> dict:
        sums, counts = self._sums[0], last.counts
        completed, submitted = int(sums["completed"]), int(sums["submitted"])
        ended = completed + sum(int(sums[name]) for name in ("rejected", "dropped", "refused", "abandoned"))
        now = float(last.lane["now"])
        end = float(sums["last_completion_s"]) if completed else now
        duration = end - float(sums["first_arrival_s"]) if submitted else math.nan
        span = (now - self._start_s) * len(last.servers)
        eta = np.array([last.config.usable_eta(server) for server in last.config.servers])
        kv_share = np.where(np.isfinite(eta), last.servers["peak_ever"] / eta, 0.0)
        return {
            "submitted": submitted,
            "completed": completed,
            "rejected": int(sums["rejected"]),
            "dropped": int(sums["dropped"]),
            "refused": int(sums["refused"]),
            "abandoned": int(sums["abandoned"]),
            "unfinished": submitted - ended,
            "preemptions": int(sums["preemptions"]),
            "decisions": int(counts["decisions"]),
            "slo_attainment": _ratio(sums["met"], submitted),
            "refused_share": _ratio(sums["refused"], submitted),
            "abandoned_share": _ratio(sums["abandoned"], submitted),
            "request_goodput": _ratio(sums["met"], duration),
            "request_throughput": _ratio(completed, duration),
            "output_throughput": _ratio(sums["output_tokens"], duration),
            "total_token_throughput": _ratio(sums["prompt_tokens"] + sums["output_tokens"], duration),
            "mean_queue_ms": 1000.0 * _ratio(sums["queue_s"], completed),
            "mean_batch_size": _ratio(counts["launched"], counts["batches"]),
            "gpu_utilization": _ratio(last.servers["busy_s"].sum(), span),
            "peak_kv_utilization": float(kv_share.max()),
            "simulated_s": now,
            "wall_s": self._wall_s,
            "duration_s": duration,
            "longest_wait_ms": 1000.0 * float(sums["longest_wait_s"]),
        }

    def _fairness(self) -> dict:
        submitted, misses = self._per_bin
        used = np.flatnonzero(submitted)
        rate = misses[used] / submitted[used]
        worst = int(np.argmax(rate)) if len(used) else 0
        return {
            "jain_index": jain_index(1.0 - rate) if len(used) else math.nan,
            "worst_bin": int(used[worst]) if len(used) else 0,
            "worst_bin_miss_rate": float(rate[worst]) if len(used) else math.nan,
            "per_bin": [
                {"bin": k, "submitted": int(n), "misses": int(m), "miss_rate": _ratio(m, n)}
                for k, (n, m) in enumerate(zip(submitted, misses, strict=True))
            ],
            "per_class": [] if self._per_class is None else self._per_class.rows(histogram_quantile),
        }


def summarize(result: RunResult) -> dict:
    """The metrics of one run (KEYS), over the requests from ``result.warmup`` on; exact percentiles."""
    totals = Accumulator()
    totals.add(result)
    latency, _ = seen_by_clients(result.requests[result.warmup :], result.config)
    return totals._summary(lambda row: _exact_statistics(latency[row]))


def _cache(last: RunResult) -> dict:
    """What the prefix caches did over the whole run (CACHE_KEYS); empty where there is none."""
    pools = last.pools
    if pools is None:
        return {}
    cached = int(pools["cached"].sum())
    values = _ratio(cached, pools["looked_up"].sum()), cached, pools["recomputed"].sum(), pools["evicted"].sum()
    return dict(zip(CACHE_KEYS, (values[0], *map(int, values[1:])), strict=True))


def _exact_statistics(values: NDArray[np.float64]) -> tuple[float, ...]:
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return (math.nan,) * len(STATISTICS)
    median, p95, p99 = np.percentile(values, [100.0 * share for share in _QUANTILES])
    return float(values.mean()), float(median), float(values.std()), float(p95), float(p99)


def _itl_statistics(result: RunResult) -> tuple[float, ...]:
    """Statistics of the gaps between tokens (s): moments from the lane, quantiles from its histogram."""
    count = float(result.counts["itl_count"])
    if count == 0:
        return (math.nan,) * len(STATISTICS)
    mean = float(result.counts["itl_sum"]) / count
    variance = max(0.0, float(result.counts["itl_sum2"]) / count - mean * mean)
    median, p95, p99 = (histogram_quantile(result.itl_histogram, share) for share in _QUANTILES)
    return mean, median, math.sqrt(variance), p95, p99


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole > 0 else math.nan
