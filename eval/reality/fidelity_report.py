"""Predicted against measured: the errors, the bar for them, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.reality.fidelity_replay import METRICS, UNITS

LEAST_BAR = 0.05
MOST_BAR = 0.2
"""Above this bar there is no verdict: real runs that differ so much would let any prediction pass."""

JUDGED = ("e2e_p50", "e2e_p95")


@dataclass(frozen=True)
class MetricLine:
    """One metric at one load: the simulator's number against those of the repeated real runs."""

    metric: str
    predicted: float
    real: tuple[float, ...]

    @property
    def measured(self) -> float:
        """Median of the real runs."""
        return float(np.median(self.real))

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1.0

    @property
    def spread(self) -> float:
        """Standard deviation of the real runs over their mean."""
        return float(np.std(self.real, ddof=1) / np.mean(self.real)) if len(self.real) > 1 else 0.0

    @property
    def bar(self) -> float:
        """5 %, or twice the spread where that is more."""
        return max(LEAST_BAR, 2 * self.spread)

    @property
    def verdict(self) -> str:
        """``within`` or ``OUTSIDE`` the bar, or ``UNDECIDED`` where the real runs are too noisy to judge by."""
        if self.bar > MOST_BAR:
            return "UNDECIDED"
        return "within" if abs(self.error) <= self.bar else "OUTSIDE"


@dataclass(frozen=True)
class ServiceError:
    """Relative errors of the service time of the real batches: ``bias``, the signed median; median and p95 of size."""

    batches: int
    bias: float
    median: float
    p95: float

    @classmethod
    def of(cls, errors: NDArray[np.float64]) -> ServiceError:
        """The statistics of these relative errors (batches,)."""
        size = np.abs(errors)
        return cls(len(errors), float(np.median(errors)), float(np.median(size)), float(np.percentile(size, 95)))


@dataclass(frozen=True)
class LoadResult:
    """A load, as share of the capacity under the profile; its rate (requests/s), its lines, its service errors."""

    load: float
    rate: float
    requests: int
    mean_batch: float
    lines: tuple[MetricLine, ...]
    service: ServiceError

    @property
    def passed(self) -> bool:
        """Whether the judged metrics are within their bars."""
        return all(line.verdict == "within" for line in self.lines if line.metric in JUDGED)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        shown = ("measured", "error", "spread", "bar", "verdict")
        lines = [asdict(line) | {name: getattr(line, name) for name in shown} for line in self.lines]
        own = {name: getattr(self, name) for name in ("load", "rate", "requests", "mean_batch", "passed")}
        return own | {"service_error": asdict(self.service), "lines": lines}


def metric_lines(predicted: Mapping[str, float], real: Sequence[Mapping[str, float]]) -> tuple[MetricLine, ...]:
    """A line per metric."""
    return tuple(MetricLine(name, predicted[name], tuple(run[name] for run in real)) for name in METRICS)


def table_text(results: Sequence[LoadResult]) -> str:
    """All loads, a row per metric; those with a bar show their verdict."""
    text = []
    for result in results:
        text.append(
            f"load {result.load:g} = {result.rate:.3g} requests/s, {result.requests} requests, "
            f"mean batch {result.mean_batch:.1f}, {len(result.lines[0].real)} real runs"
        )
        text.append(f"{'':12}{'simulated':>12}{'measured':>12}{'error':>9}{'spread':>9}{'bar':>8}")
        for line in result.lines:
            mark = f"  {line.verdict}" if line.metric in JUDGED else ""
            text.append(
                f"{line.metric:12}{line.predicted:12.4g}{line.measured:12.4g}{100 * line.error:+8.1f}%"
                f"{100 * line.spread:8.1f}%{100 * line.bar:7.1f}%{mark}"
            )
        own = result.service
        text.append(
            f"service time of the {own.batches} real batches, each predicted from its prompts and outputs: "
            f"bias {100 * own.bias:+.1f} %, |error| median {100 * own.median:.1f} %, p95 {100 * own.p95:.1f} %"
        )
        text.append("")
    units = ", ".join(f"{name} in {unit}" for name, unit in UNITS.items())
    text.append(f"times in s, {units}; measured: median of the real runs; spread: their standard deviation / mean;")
    text.append("bar: 5 %, or twice the spread where that is more; it is applied to e2e_p50 and e2e_p95")
    if any(line.verdict == "UNDECIDED" for result in results for line in result.lines if line.metric in JUDGED):
        text.append(
            f"UNDECIDED: the bar is above {100 * MOST_BAR:.0f} %, the machine is too noisy; repeat this on a quiet one"
        )
    return "\n".join(text)
