"""A server's coefficients from logged runs: simulate the runs, compare what a client sees, and adjust.

A logged run is replayed by the engine `continuous` with the server's own settings; the client sees every token a
constant later than the engine makes it.  The fit is deterministic: a start from regressions on the logged times, then
Nelder-Mead on the simulated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls

from eval.engine_log_data import Floats, Run
from eval.fidelity_replay import measures
from llmsched_env.config import SLO, Continuous, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulator import simulate
from policies import parse

METRICS = ("e2e_p50", "e2e_p95", "e2e_p99", "ttft_p50", "ttft_p95", "ttft_p99", "makespan")

LEVELS = (*range(5, 100, 5), 99)
"""Percentiles of TTFT and E2E that the fit compares."""

TOLERANCE = 0.05
"""Relative error up to which the loss is quadratic; beyond it is linear, so that no single percentile rules."""

STEPS = (0.4, 0.15, 0.05)
"""Sizes of the first simplex of each search, in its coordinates."""

MOST_TRIALS = 300
"""Trials of each search."""

LEAST_SHARE = 0.3
"""Share of a sequence's cost from which the search starts at least, with its context and without."""

SMALLEST = 1e-2
"""Share of a coefficient's natural size from which its search starts at least."""


@dataclass(frozen=True)
class Engine:
    """The settings of the server: sequences at once, tokens of an iteration, KV memory in tokens."""

    max_seqs: int = 256
    token_budget: float = 512
    kv_tokens: float = 580512


@dataclass(frozen=True)
class Coefficients:
    """A server, in ms: a decode step d0 + d1 b + d2 KV, a prompt p1 a token; and ``offset``, what the client adds."""

    d0: float
    d1: float
    d2: float
    p1: float
    offset: float

    @property
    def values(self) -> Floats:
        """In the order of the fields."""
        return np.array([self.d0, self.d1, self.d2, self.p1, self.offset])

    def profile(self, engine: Engine, name: str = "fitted") -> Profile:
        """The latency profile of the server, without the offset.  No iteration is shorter than ``d0``."""
        own = {"d0": self.d0, "d1": self.d1, "d2": self.d2, "p0": self.d0, "p1": self.p1, "p2": 0.0}
        return Profile(name, "split", own, engine.kv_tokens)


@dataclass(frozen=True)
class Seen:
    """Times (s, on the clock of the arrivals) of first token and end of each request, at the client."""

    first_s: Floats
    done_s: Floats


def predict(requests: Requests, found: Coefficients, engine: Engine) -> Seen:
    """What the client of such a server would see."""
    bound = parse(f"static:batch={engine.max_seqs}")
    config = SimConfig(
        servers=(Server(found.profile(engine)),),
        max_batch=engine.max_seqs,
        slos=(SLO(e2e_s=1e9),),
        engine="continuous",
        continuous=Continuous(admission="prompt", prefill="chunked", token_budget=engine.token_budget),
    )
    rows = simulate(bound.configure(config), requests, bound.decide, **bound.options).requests
    return Seen(rows["first_token"] + found.offset / 1e3, rows["completion"] + found.offset / 1e3)


def metrics(requests: Requests, first_s: Floats, done_s: Floats) -> dict[str, float]:
    """The METRICS of a run, in seconds."""
    late = np.percentile(first_s - requests.arrival_s, 99)
    found = measures(requests, first_s, done_s) | {"ttft_p99": float(late)}
    return {name: found[name] for name in METRICS}


def miss(run: Run, found: Coefficients, engine: Engine) -> float:
    """How far the prediction of ``run`` is off: E2E, TTFT and makespan weigh the same."""
    seen = predict(run.requests, found, engine)
    sent = run.requests.arrival_s
    return (
        _size(np.percentile(seen.done_s - sent, LEVELS) / np.percentile(run.e2e_s, LEVELS))
        + _size(np.percentile(seen.first_s - sent, LEVELS) / np.percentile(run.ttft_s, LEVELS))
        + _size(seen.done_s.max() / run.done_s.max())
    )


def _size(ratio: Floats) -> float:
    """Mean size of the logarithms of predicted over logged (pseudo-Huber)."""
    return float(np.mean(2.0 * np.sqrt(1.0 + (np.log(ratio) / TOLERANCE) ** 2) - 2.0))


@dataclass(frozen=True)
class Search:
    """Coordinates of the search: logarithms, but for the cost of a sequence in a step.

    What a sequence costs at its mean ``context`` (tokens) a log tells well, which share of it goes with the context
    badly: that share is a coordinate of its own, from 0 to 1.
    """

    context: float

    def place(self, found: Coefficients) -> Floats:
        """Of the coefficients; a share near its ends starts inside."""
        growing = found.d2 * self.context
        cost = found.d1 + growing
        share = min(max(growing / cost, LEAST_SHARE), 1.0 - LEAST_SHARE)
        return np.array([*np.log([found.d0, cost]), share, *np.log([found.p1, found.offset])])

    def coefficients(self, place: Floats) -> Coefficients:
        """At a place."""
        d0, cost, _, p1, offset = np.exp(place).tolist()
        share = min(max(float(place[2]), 0.0), 1.0)
        return Coefficients(d0, cost * (1.0 - share), cost * share / self.context, p1, offset)


def fit(runs: Sequence[Run], engine: Engine, start: Coefficients | None = None) -> Coefficients:
    """The coefficients that predict ``runs`` best, searched from ``start`` (default: regressions on the log).

    Nelder-Mead with ever smaller simplices: a simulation is a step function of the coefficients here and there.
    """
    lengths = [run.requests.prompt_tokens + 0.5 * run.requests.output_tokens for run in runs]
    search = Search(float(np.concatenate(lengths).mean()))

    def loss(place: Floats) -> float:
        found = search.coefficients(place)
        return sum(miss(run, found, engine) for run in runs)

    place = search.place(guess(runs) if start is None else start)
    for step in STEPS:
        simplex = np.vstack([place, place + step * np.eye(len(place))])
        limits: Any = {"initial_simplex": simplex, "maxfev": MOST_TRIALS, "xatol": 1e-3, "fatol": 1e-4}
        place = minimize(loss, place, method="Nelder-Mead", options=limits).x
    return search.coefficients(place)


def guess(runs: Sequence[Run]) -> Coefficients:
    """A start without simulation: regressions of the logged times on how many ran beside each request."""
    rows = np.vstack([_beside(run) for run in runs])
    kept = rows[rows[:, 0] > 0]
    if len(kept) < 3:
        return Coefficients(10.0, 0.1, 1e-5, 0.1, 5.0)
    step, members, context = kept.T
    sizes = np.array([step.mean(), step.mean() / members.mean(), step.mean() / context.mean()])
    decode = nnls(np.column_stack([np.ones(len(kept)), members, context]) / step[:, None], np.ones(len(kept)))[0]
    prompts = np.concatenate([run.requests.prompt_tokens for run in runs]).astype(float)
    ttft = 1e3 * np.concatenate([run.ttft_s for run in runs])
    quick = ttft <= np.percentile(ttft, 25)
    first = nnls(np.column_stack([prompts, np.ones(len(ttft))])[quick] / ttft[quick, None], np.ones(quick.sum()))[0]
    least = SMALLEST * np.array([*sizes, ttft[quick].mean() / prompts.mean(), ttft[quick].mean()])
    return Coefficients(*np.maximum([*decode, *first], least).tolist())


def _beside(run: Run) -> NDArray:
    """Per request: ms between its tokens (0: it has one), and while it decoded the mean number that did, and their
    context in tokens."""
    first, done, sizes = run.first_s, run.done_s, run.requests
    weight = sizes.prompt_tokens + 0.5 * sizes.output_tokens
    tokens = np.maximum(sizes.output_tokens - 1, 1)
    span = done - first
    step = np.where((sizes.output_tokens > 1) & (span > 0), 1e3 * span / tokens, 0.0)
    spans = np.where(span > 0, span, 1.0)
    columns = [
        (_area(first, done, w, done) - _area(first, done, w, first)) / spans for w in (np.ones(len(sizes)), weight)
    ]
    return np.column_stack([step, *columns])


def _area(first: Floats, done: Floats, weight: Floats, at: Floats) -> Floats:
    """Integral up to each time of ``at`` of the summed weights of the intervals [first, done] open then."""
    times = np.concatenate([first, done])
    order = np.argsort(times, kind="stable")
    height = np.cumsum(np.concatenate([weight, -weight])[order])
    times = times[order]
    area = np.concatenate([[0.0], np.cumsum(height[:-1] * np.diff(times))])
    return np.interp(at, times, area)
