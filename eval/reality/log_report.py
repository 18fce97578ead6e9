"""Predicted against logged: errors by run, their mean and the worst, and the bar for the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmsched.eval.reality.log_data import LoggedRun
from llmsched.eval.reality.log_fit import METRICS, Coefficients, metrics, predict
from llmsched.eval.reality.log_replay import ClientTimes, EngineSettings
from llmsched.eval.report.tables import Column, Table

BAR: Mapping[str, float] = {"e2e_p50": 0.06, "e2e_p95": 0.06, "ttft_p95": 0.15, "makespan": 0.03}
"""Most mean size of the relative error over the runs, by metric."""


@dataclass(frozen=True)
class Prediction:
    """A run, its prediction, and the coefficients of the prediction (``fitted_on``: labels of runs)."""

    run: LoggedRun
    found: Coefficients
    fitted_on: tuple[str, ...]
    seen: ClientTimes

    @classmethod
    def of(
        cls, run: LoggedRun, found: Coefficients, fitted_on: Sequence[LoggedRun], engine: EngineSettings
    ) -> Prediction:
        """The prediction of ``run``, by simulation."""
        labels = tuple(other.label for other in fitted_on)
        return cls(run, found, labels, predict(run.requests, found, engine))

    @property
    def predicted(self) -> dict[str, float]:
        """METRICS of the simulation, s."""
        return metrics(self.run.requests, self.seen.first_s, self.seen.done_s)

    @property
    def measured(self) -> dict[str, float]:
        """METRICS of the log, s."""
        return metrics(self.run.requests, self.run.first_s, self.run.done_s)

    @property
    def errors(self) -> dict[str, float]:
        """Relative errors of the prediction."""
        measured = self.measured
        return {name: value / measured[name] - 1.0 for name, value in self.predicted.items()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run": self.run.label,
            "requests": len(self.run.requests),
            "fitted_on": list(self.fitted_on),
            "coefficients": asdict(self.found),
            "predicted": self.predicted,
            "measured": self.measured,
            "error": self.errors,
        }


@dataclass(frozen=True)
class ErrorSummary:
    """Mean and worst size of every metric's error, and whether the mean keeps within the bar."""

    mean: dict[str, float]
    worst: dict[str, float]

    @classmethod
    def of(cls, predictions: Sequence[Prediction]) -> ErrorSummary:
        """The summary over the runs."""
        sizes = [{name: abs(error) for name, error in each.errors.items()} for each in predictions]
        mean = {name: sum(run[name] for run in sizes) / len(sizes) for name in METRICS}
        return cls(mean, {name: max(run[name] for run in sizes) for name in METRICS})

    @property
    def passed(self) -> bool:
        """Whether every metric with a bar keeps within it."""
        return all(self.mean[name] <= bar for name, bar in BAR.items())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"mean_abs_error": self.mean, "worst_abs_error": self.worst, "bar": dict(BAR), "passed": self.passed}


def prediction_table(predictions: Sequence[Prediction], summary: ErrorSummary) -> Table:
    """A row per run: simulated, logged and error; then mean, worst and bar."""
    columns = [Column("run", "run"), Column("requests", "requests", digits=0), Column("what", "")]
    for name in METRICS:
        title, _, unit = name.partition("_")
        columns.append(Column(name, title, unit, digits=3))
    rows: list[dict[str, Any]] = []
    for each in predictions:
        rows.append(
            {"run": each.run.label, "requests": len(each.run.requests), "what": "simulated, s"} | each.predicted
        )
        rows.append({"run": "", "what": "logged, s"} | each.measured)
        rows.append({"run": "", "what": "error"} | {name: f"{100 * e:+.1f} %" for name, e in each.errors.items()})
    rows.append({"run": "all", "what": "mean |error|"} | _percent(summary.mean))
    rows.append({"run": "", "what": "worst |error|"} | _percent(summary.worst))
    rows.append({"run": "", "what": "bar of the mean"} | _percent(BAR))
    rows.append({"run": "", "what": "verdict"} | {name: _verdict(summary.mean[name], bar) for name, bar in BAR.items()})
    return Table("engine_log", "", columns, rows)


def _percent(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{100 * value:.1f} %" for name, value in values.items()}


def _verdict(error: float, bar: float) -> str:
    return "within" if error <= bar else "OUTSIDE"
