"""A server's coefficients from its log without a simulation: the start of the fit.

Between its first token and its last a request gets one token a step, and how long a step takes follows from how many
decode and how much context they hold, which the log tells at every instant.  So the tokens a request should have got
are the integral of one over the step, less the steps that prompts took; the coefficients are those for which it comes
out at the tokens it did get.
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
"""Tokens after the first that a request needs to tell something about steps."""

TOLERANCE = 0.1
"""Relative error of a request's tokens up to which it counts quadratically."""

PLACES = ((6.0, 0.15, 1e-4, 0.03), (9.0, 0.2, 1e-5, 0.02), (4.0, 0.05, 2e-4, 0.05))
"""Where the regression starts: d0, d1, d2, p1."""

LEAST, MOST = (0.1, 1e-4, 1e-6, 5e-3), (200.0, 20.0, 0.1, 5.0)
"""Bounds of the regression, ms."""

OFFSET_LEAST = 1.0
"""Least of the client's offset, ms."""


@dataclass(frozen=True)
class LogTimeline:
    """A run between the instants at which a request got its first token or its last, m of them.

    Per interval, (m - 1,): ``wide`` ms, ``members`` that decode, the tokens of ``context`` they hold together.
    ``prompts`` (m,): tokens of the prompts whose first token came then.  Per request, (N,): the instants ``first`` and
    ``last`` (indices), the ``tokens`` got between them.
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
        return cls(1e3 * np.diff(times), members, np.maximum(context, 0.0), prompts, first, last, tokens)

    def misses(self, found: Floats) -> Floats:
        """Per request with FEWEST tokens: logarithm of the tokens it should have got over those it got."""
        d0, d1, d2, p1 = found
        pace = 1.0 / (np.maximum(d0, d1 * self.members) + d2 * self.context)
        got = np.concatenate([[0.0], np.cumsum(self.wide * pace)])
        lost = np.cumsum(self.prompts * p1 * np.concatenate([pace[:1], pace]))
        steps = (got[self.last] - got[self.first]) - (lost[self.last] - lost[self.first])
        kept = self.tokens >= FEWEST
        return np.log(np.maximum(steps[kept], 0.05) / self.tokens[kept])


def start(runs: Sequence[LoggedRun]) -> Floats:
    """d0, d1, d2, p1 and the offset (ms) from the log alone; the defaults PLACES[0] where it tells nothing."""
    lines = [LogTimeline.of(run) for run in runs]
    if sum(int((line.tokens >= FEWEST).sum()) for line in lines) < len(PLACES[0]):
        return np.array([*PLACES[0], 10.0])

    def misses(place: Floats) -> Floats:
        return np.concatenate([line.misses(np.exp(place)) for line in lines])

    def tried(place: Sequence[float]) -> Any:
        bounds, steps = (np.log(LEAST), np.log(MOST)), [1e-4] * len(place)
        return least_squares(misses, np.log(place), bounds=bounds, diff_step=steps, loss="soft_l1", f_scale=TOLERANCE)

    found = np.exp(min((tried(place) for place in PLACES), key=lambda each: each.cost).x)
    prompts = np.concatenate([run.requests.prompt_tokens for run in runs]).astype(np.float64)
    ttft = 1e3 * np.concatenate([run.ttft_s for run in runs])
    alone = np.maximum(found[0], found[3] * prompts)
    return np.array([*found, max(float(np.percentile(ttft - alone, 10)), OFFSET_LEAST)])
