"""Metrics of every SLO class: counts, the share on target, and percentiles to 0.5 %, as a run comes in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SLO
from llmsched_env.core.layout import ABANDONED, COMPLETED, ITL_BINS, PENDING, REFUSED

FATES = (("completed", COMPLETED), ("refused", REFUSED), ("abandoned", ABANDONED))
SHARES = (("median", 0.5), ("p99", 0.99))


class ByClass:
    """What a tally adds up by SLO class; ``latencies`` names the rows of the latencies that it is given."""

    def __init__(self, slos: tuple[SLO, ...], latencies: tuple[str, ...]) -> None:
        self._names, self._latencies = [slo.name for slo in slos], latencies
        self._counts = {name: np.zeros(len(slos), np.int64) for name in ("submitted", "met", *(f for f, _ in FATES))}
        self._histograms = np.zeros((len(slos), len(latencies), ITL_BINS), np.int64)

    def add(self, rows: NDArray, latency: NDArray[np.float64], met: NDArray[np.bool_], count: Callable) -> None:
        """Add scored REQUEST rows (N,), their latencies (rows, N) s, and whether they met their SLO.

        ``count(values, histogram)`` counts finite values into a histogram (metrics.count_log_bins).
        """
        number = rows["slo_class"]
        arrived = rows["status"] != PENDING
        kinds = {"submitted": arrived, "met": met & arrived} | {name: rows["status"] == fate for name, fate in FATES}
        for name, which in kinds.items():
            self._counts[name] += np.bincount(number[which], minlength=len(self._names))
        for c in range(len(self._names)):
            mine = latency[:, number == c] if len(self._names) > 1 else latency
            for row, values in enumerate(mine):
                count(values, self._histograms[c, row])

    def rows(self, quantile: Callable[[NDArray[np.int64], float], float]) -> list[dict]:
        """An entry per class; ``quantile(histogram, share)`` in s (metrics.histogram_quantile)."""
        return [self._row(c, quantile) for c in range(len(self._names))]

    def _row(self, c: int, quantile: Callable[[NDArray[np.int64], float], float]) -> dict:
        counts = {name: int(values[c]) for name, values in self._counts.items()}
        met, submitted = counts.pop("met"), counts["submitted"]
        found: dict = {"class": self._names[c], **counts, "misses": submitted - met}
        found["slo_attainment"] = met / submitted if submitted else math.nan
        for row, latency in enumerate(self._latencies):
            for name, share in SHARES:
                found[f"{name}_{latency}_ms"] = 1000.0 * quantile(self._histograms[c, row], share)
        return found
