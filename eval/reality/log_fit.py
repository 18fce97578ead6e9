"""A server's coefficients from logged runs: simulate the runs, compare what a client sees, and adjust.

A logged run is replayed by the engine `continuous` with the settings of the server; the client sees every token a
constant time later.  The fit is deterministic: a start from the log alone (log_start), then Nelder-Mead on the
simulated times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from llmsched.eval.reality.fidelity_replay import metrics_of
from llmsched.eval.reality.log_data import Floats, LoggedRun
from llmsched.eval.reality.log_replay import ClientTimes, EngineSettings, replay
from llmsched.eval.reality.log_start import start
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests

METRICS = ("e2e_p50", "e2e_p95", "e2e_p99", "ttft_p50", "ttft_p95", "ttft_p99", "makespan")

LEVELS = (*range(5, 100, 5), 99)
"""Percentiles of TTFT and E2E that the fit compares."""

TOLERANCE = 0.05
"""Relative error up to which the loss is quadratic; beyond it is linear, so that no percentile dominates."""

STEPS = (0.3, 0.1, 0.1)
"""Size of the first simplex of each search, in logarithms."""

MOST_TRIALS = 150
"""Trials of each search."""

CORRECTIONS = (1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5)
"""Share of the difference that each correction of the start applies; the last ones are smaller, to settle."""

MOST_CORRECTION = 0.7
"""Most change of a logarithm in one correction."""

LEAST = (1.0, 1e-3, 6e-7, 2e-3, 0.1)
"""Least coefficients, as shares of d0, from which Nelder-Mead starts: near 0 a change has no effect."""

CONTEXT = 700.0
"""Tokens of context at which the search exchanges d1 for d2."""


@dataclass(frozen=True)
class Coefficients:
    """A server, in ms: a decode step takes max(d0, d1 b) + d2 KV, a prompt p1 per token; the client adds ``offset``."""

    d0: float
    d1: float
    d2: float
    p1: float
    offset: float

    @property
    def values(self) -> Floats:
        """The coefficients in the order of the fields, (5,)."""
        return np.array([self.d0, self.d1, self.d2, self.p1, self.offset])

    def profile(self, engine: EngineSettings, name: str = "fitted") -> Profile:
        """The latency profile of the server, without the offset.  No iteration is shorter than ``d0``."""
        own = {"d0": self.d0, "d1": self.d1, "d2": self.d2, "p0": self.d0, "p1": self.p1, "p2": 0.0}
        return Profile(name, "floor", own, engine.kv_tokens)


def predict(requests: Requests, found: Coefficients, engine: EngineSettings) -> ClientTimes:
    """The times that the client of such a server sees, by simulation."""
    seen = replay(requests, found.profile(engine), engine)
    return ClientTimes(seen.first_s + found.offset / 1e3, seen.done_s + found.offset / 1e3, seen.wall_s)


def metrics(requests: Requests, first_s: Floats, done_s: Floats) -> dict[str, float]:
    """The METRICS of a run, in seconds."""
    late = np.percentile(first_s - requests.arrival_s, 99)
    found = metrics_of(requests, first_s, done_s) | {"ttft_p99": float(late)}
    return {name: found[name] for name in METRICS}


def miss(run: LoggedRun, found: Coefficients, engine: EngineSettings) -> float:
    """How far the prediction of ``run`` is off: E2E, TTFT and makespan weigh the same."""
    seen, counted = predict(run.requests, found, engine), slice(run.scored)
    sent = run.requests.arrival_s
    done, first = (seen.done_s - sent)[counted], (seen.first_s - sent)[counted]
    return (
        _size(np.percentile(done, LEVELS) / np.percentile(run.e2e_s[counted], LEVELS))
        + _size(np.percentile(first, LEVELS) / np.percentile(run.ttft_s[counted], LEVELS))
        + _size(seen.done_s[counted].max() / run.done_s[counted].max())
    )


def _size(ratio: Floats) -> float:
    """Mean size of the logarithms of predicted over logged (pseudo-Huber)."""
    return float(np.mean(2.0 * np.sqrt(1.0 + (np.log(ratio) / TOLERANCE) ** 2) - 2.0))


def fit(runs: Sequence[LoggedRun], engine: EngineSettings) -> Coefficients:
    """The coefficients that predict ``runs`` best, searched from two starts: that of the regressions on the log, and
    its correction."""

    def loss(place: Floats) -> float:
        found = Coefficients(*np.exp(place).tolist())
        return sum(miss(run, found, engine) for run in runs)

    ends = [_search_from(loss, place) for place in (correct_start(runs, engine), np.log(start(runs)))]
    return Coefficients(*np.exp(min(ends, key=loss)).tolist())


def _search_from(loss: Callable[[Floats], float], place: Floats) -> Floats:
    """The minimum that Nelder-Mead on logarithms finds, restarted with smaller simplices.

    A simulation is in places a step function of the coefficients, so derivatives would mislead.
    """
    place = np.maximum(place, place[0] + np.log(LEAST))
    for step in STEPS:
        limits: Any = {"initial_simplex": simplex(place, step), "maxfev": MOST_TRIALS, "xatol": 1e-4, "fatol": 1e-5}
        place = minimize(loss, place, method="Nelder-Mead", options=limits).x
    return place


def correct_start(runs: Sequence[LoggedRun], engine: EngineSettings) -> Floats:
    """Logarithms of coefficients for which the regressions on the simulated log give what they give on the real one.

    Indirect inference (Gourieroux, Monfort and Renault, Journal of Applied Econometrics 8, 1993): effects that the
    regressions neglect are the same in both.  The simulated log is regressed from where the real one ended: the
    regression has several minima in d1 and d2, and both logs have to end in the same.
    """
    real = np.log(start(runs))
    place, near = real, [np.exp(real[:-1]).tolist()]
    for share in CORRECTIONS:
        found = Coefficients(*np.exp(place).tolist())
        again = np.log(start([simulated_log(run, found, engine) for run in runs], near))
        place = place + share * np.clip(real - again, -MOST_CORRECTION, MOST_CORRECTION)
    return place


def simulated_log(run: LoggedRun, found: Coefficients, engine: EngineSettings) -> LoggedRun:
    """The log that such a server would write for the requests of ``run``."""
    seen, sent = predict(run.requests, found, engine), run.requests.arrival_s
    return LoggedRun(run.label, run.requests, seen.first_s - sent, seen.done_s - sent, run.scored)


def simplex(place: Floats, step: float) -> Floats:
    """The first simplex round ``place``: logarithms of the coefficients, moved by about ``step``.

    d1 and d2 can replace each other, so one direction changes the cost of a sequence as a whole, and another the share
    of it that grows with the context, at about the same cost.
    """
    moves = step * np.eye(len(place))
    costs = np.exp(place[1:3]) * np.array([1.0, CONTEXT])
    moves[1, 2] = step
    moves[2, 1:3] = np.clip(np.array([-0.5, 0.5]) * costs.sum() * step / costs, -1.0, 1.0)
    return np.vstack([place, place + moves])
