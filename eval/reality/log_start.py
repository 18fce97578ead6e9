"""A server's coefficients from its log without a simulation: the start of the fit.

Between its first token and its last a request gets one token per step.  The time of a step follows from the number of
decoding requests and their context, which the log gives at every instant.  So the tokens that a request should have got
are the integral of 1 / (time of a step), minus the steps that prompts took.  The coefficients are those for which this
equals the tokens that the request did get.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from llmsched.eval.reality.log_data import Floats, LoggedRun

FEWEST = 5
"""Least number of tokens after the first for a request to count in the regression."""

TOLERANCE = 0.1
"""Relative error of a request's tokens up to which it counts quadratically."""

PLACES = ((6.0, 0.15, 1e-4, 0.03), (9.0, 0.2, 1e-5, 0.02), (4.0, 0.05, 2e-4, 0.05))
"""Starts of the regression: d0, d1, d2, p1."""

LEAST, MOST = (0.1, 1e-4, 1e-6, 5e-3), (200.0, 20.0, 0.1, 5.0)
"""Bounds of the regression, ms."""

OFFSET_LEAST = 1.0
"""Least of the client's offset, ms."""


@dataclass(frozen=True)
class LogTimeline:
    """A run between the instants at which a request got its first token or its last, m of them.

    Per interval, (m - 1,): ``wide``, ms; ``members``, requests that decode; ``context``, the tokens that they hold
    together.  ``prompts`` (m,): tokens of the prompts whose first token came at that instant.  Per request, (N,):
    ``first`` and ``last``, indices of instants; ``tokens``, those between them, 0 where the request does not
    count.
    """

    wide: Floats
    members: Floats
    context: Floats
    prompts: Floats
    first: NDArray[np.intp]
    last: NDArray[np.intp]
    tokens: Floats

    @classmethod
    def of(cls, run: LoggedRun) -> LogTimeline:
        """Of ``run``; each request's context grows evenly between its first token and its last."""
        times = np.unique(np.concatenate([run.first_s, run.done_s]))
        first, last = np.searchsorted(times, run.first_s), np.searchsorted(times, run.done_s)
        prompt = run.requests.prompt_tokens.astype(np.float64)
        tokens = run.requests.output_tokens.astype(np.float64) - 1.0
        pace = tokens / np.maximum(run.done_s - run.first_s, 1e-9)

        def open_then(weights: Floats) -> Floats:
            """Sum of the weights of the requests that decode, per interval."""
            change = np.bincount(first, weights, len(times)) - np.bincount(last, weights, len(times))
            return np.cumsum(change)[:-1]

        middle = 0.5 * (times[1:] + times[:-1])
        context = open_then(prompt - pace * run.first_s) + open_then(pace) * middle
        members = np.round(open_then(np.ones(len(prompt))))
        prompts = np.bincount(first, prompt, len(times)).astype(np.float64)
        counted = np.where(np.arange(len(tokens)) < (run.scored or len(tokens)), tokens, 0.0)
        return cls(1e3 * np.diff(times), members, np.maximum(context, 0.0), prompts, first, last, counted)

    def residuals(self, found: Floats) -> Floats:
        """By request with FEWEST tokens or more: logarithm of (tokens it should have got / tokens it got)."""
        d0, d1, d2, p1 = found
        pace = 1.0 / (np.maximum(d0, d1 * self.members) + d2 * self.context)
        got = np.concatenate([[0.0], np.cumsum(self.wide * pace)])
        lost = np.cumsum(self.prompts * p1 * np.concatenate([pace[:1], pace]))
        steps = (got[self.last] - got[self.first]) - (lost[self.last] - lost[self.first])
        kept = self.tokens >= FEWEST
        return np.log(np.maximum(steps[kept], 0.05) / self.tokens[kept])


def start(runs: Sequence[LoggedRun], places: Sequence[Sequence[float]] = PLACES) -> Floats:
    """d0, d1, d2, p1 and the offset (ms), (5,), from the log alone; PLACES[0] where too few requests count.

    ``places``: where the regression starts; of what it finds from each, the best is taken.
    """
    lines = [LogTimeline.of(run) for run in runs]
    if sum(int((line.tokens >= FEWEST).sum()) for line in lines) < len(PLACES[0]):
        return np.array([*PLACES[0], 10.0])

    def residuals(place: Floats) -> Floats:
        return np.concatenate([line.residuals(np.exp(place)) for line in lines])

    def fit_from(place: Sequence[float]) -> Any:
        bounds, steps = (np.log(LEAST), np.log(MOST)), [1e-4] * len(place)
        return least_squares(
            residuals, np.log(place), bounds=bounds, diff_step=steps, loss="soft_l1", f_scale=TOLERANCE
        )

    found = np.exp(min((fit_from(place) for place in places), key=lambda each: each.cost).x)
    prompts = np.concatenate([run.requests.prompt_tokens[: run.scored] for run in runs]).astype(np.float64)
    ttft = 1e3 * np.concatenate([run.ttft_s[: run.scored] for run in runs])
    alone = np.maximum(found[0], found[3] * prompts)
    return np.array([*found, max(float(np.percentile(ttft - alone, 10)), OFFSET_LEAST)])
