"""The best policy of a batch queue, computed: Poisson arrivals, one server, batches whose time depends on their size.

Decisions are made while the server is free and q requests wait: launch b <= min(q, B) of them, or wait for the next
arrival.  Arrivals have no memory, so q is all there is to know.  With rate lambda and service time s,

    launch b:  takes s = s(b),     costs q s + lambda s^2 / 2,  leaves q - b + Poisson(lambda s)
    wait:      takes 1 / lambda,   costs q / lambda,            leaves q + 1

The cost is the expected integral of the number of requests in the system.  The aim is the least cost per second, g: the
mean number in the system.  A function h of the queue length gives the rates

    r(q) = min over decisions of (cost + E h(next q) - h(q)) / time

Then min r <= g <= max r over ALL q, and the decisions that attain the minimum cost at most max r.  Value iteration adds
a step times r to h until both bounds meet.

The queue is not truncated: above a last length Q, h continues as the quadratic that solves the equation exactly where
full batches are launched.  Then r is the same for all q >= Q + B, and finitely many q remain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]

FIRST_BATCHES, MOST_LENGTHS = 16, 20_000
"""Q is first this multiple of B; it is doubled, up to the second number, until h follows the quadratic beyond it."""

TOLERANCE = 1e-9
"""Width of the bracket of g at the end, relative to g."""

MOST_STEPS = 200_000

NEGLIGIBLE = 1e-20
"""Probability of the numbers of arrivals in a service that the sums leave out."""


@dataclass(frozen=True)
class BatchQueue:
    """Arrival rate (requests/s) and the service times of batches of 1, ..., B (s)."""

    rate: float
    service_s: tuple[float, ...]

    def __post_init__(self) -> None:
        per_request = [s / b for b, s in enumerate(self.service_s, 1)]
        if not self.service_s or not all(math.isfinite(s) and s > 0 for s in self.service_s):
            raise ValueError(f"service times {self.service_s} are not allowed: give at least one, all above 0.")
        if min(per_request) < per_request[-1]:
            raise ValueError("a full batch has to be the cheapest per request: give service times of which it is.")
        if not self.rate > 0 or not self.load < 1:
            raise ValueError(f"load {self.load:.4g} is not allowed: give a rate with a load above 0 and below 1.")

    @property
    def max_batch(self) -> int:
        """B."""
        return len(self.service_s)

    @property
    def load(self) -> float:
        """Share of the time that the server is busy if it launches full batches only."""
        return self.rate * self.service_s[-1] / self.max_batch


@dataclass(frozen=True, eq=False)
class Optimum:
    """``low`` <= g <= ``high``; ``policy`` (Q + 1,) is the batch for every queue length, 0 to wait, and B beyond;
    ``values`` (Q + 1,) is h with h(0) = 0.  ``steps``: of value iteration."""

    queue: BatchQueue
    low: float
    high: float
    policy: NDArray[np.int64]
    values: Floats
    steps: int

    @property
    def cost(self) -> float:
        """g, the mean number of requests in the system, to within ``error``."""
        return 0.5 * (self.low + self.high)

    @property
    def error(self) -> float:
        """Bound of the error of ``cost``, all queue lengths included."""
        return 0.5 * (self.high - self.low)

    @property
    def latency_s(self) -> float:
        """Mean latency by Little's law."""
        return self.cost / self.queue.rate

    @property
    def limit(self) -> int | None:
        """The control limit m: wait below m, launch as many as fit from m on.  None: it has another form."""
        found = int(np.argmax(self.policy > 0))
        same = np.array_equal(self.policy, control_limit(self.queue, found, len(self.policy) - 1))
        return found if same else None


def control_limit(queue: BatchQueue, limit: int, last: int) -> NDArray[np.int64]:
    """The policy (last + 1,) that waits below ``limit`` and launches min(q, B) from there on."""
    lengths = np.arange(last + 1)
    return np.where(lengths < limit, 0, np.minimum(lengths, queue.max_batch))


class _Equation:
    """The right side of the optimality equation for q = 0, ..., Q + B and all decisions."""

    def __init__(self, queue: BatchQueue, last: int, policy: NDArray[np.int64] | None) -> None:
        service = np.array([1.0 / queue.rate, *queue.service_s])
        self.last, self.full = last, queue.max_batch
        self.lengths = np.arange(last + self.full + 1, dtype=np.float64)
        self.time_s = service[:, None]
        cost = self.lengths * self.time_s + 0.5 * queue.rate * self.time_s**2
        cost[0] = self.lengths / queue.rate  # nothing comes before the arrival that ends the wait
        self.cost = np.where(self._allowed(policy), cost, math.inf)
        self.arrivals = _poisson(queue.rate * service[1:])
        # the quadratic: with D = arrivals - B of a full batch, E D = -drift and E D^2 = spread,
        # h(q) = curve q^2 + (slope + slope_g g) q solves q s + lambda s^2 / 2 - g s + E h(q + D) - h(q) = 0
        s = queue.service_s[-1]
        drift = self.full - queue.rate * s
        spread = queue.rate * s + drift**2
        self.curve = s / (2.0 * drift)
        self.slope = (self.curve * spread + 0.5 * queue.rate * s**2) / drift
        self.slope_g = -s / drift

    def _allowed(self, policy: NDArray[np.int64] | None) -> NDArray[np.bool_]:
        """Decisions (B + 1, lengths) that are possible, or the one of ``policy``."""
        sizes = np.arange(self.full + 1)[:, None]
        if policy is None:
            return sizes <= self.lengths
        chosen = np.full(len(self.lengths), self.full)
        chosen[: len(policy)] = policy[: len(chosen)]
        return sizes == chosen

    def continued(self, values: Floats, cost: float, last: int) -> Floats:
        """h up to ``last``, by the quadratic beyond Q, when g is ``cost``."""
        beyond = np.arange(self.last + 1, last + 1, dtype=np.float64)
        slope = self.slope + self.slope_g * cost
        tail = self.curve * (beyond**2 - self.last**2) + slope * (beyond - self.last)
        return np.concatenate([values, values[-1] + tail])

    def rates(self, values: Floats, cost: float) -> Floats:
        """(cost + E h(next) - h) / time of every decision (B + 1, lengths); inf: not possible."""
        h = self.continued(values, cost, self.last + self.full + self.arrivals.shape[1])
        n = len(self.lengths)
        after = sliding_window_view(h, self.arrivals.shape[1]) @ self.arrivals.T  # (left behind, b - 1): E h
        expected = np.full_like(self.cost, math.inf)
        expected[0] = h[1 : n + 1]
        for b in range(1, self.full + 1):
            expected[b, b:] = after[: n - b, b - 1]
        return (self.cost + (expected - h[:n])) / self.time_s


def _poisson(means: Floats) -> Floats:
    """P(k arrivals) for every mean (B, K), K so that the rest is NEGLIGIBLE; rows add up to 1."""
    most = int(means.max() + 12.0 * math.sqrt(means.max()) + 40.0)
    k = np.arange(most + 1)
    chances = np.exp(k * np.log(means[:, None]) - means[:, None] - gammaln(k + 1.0))
    assert chances[:, -1].max() < NEGLIGIBLE
    return chances / chances.sum(axis=1, keepdims=True)


def solve(queue: BatchQueue, *, policy: NDArray[np.int64] | None = None, tolerance: float = TOLERANCE) -> Optimum:
    """The optimum of ``queue`` by value iteration; with ``policy`` (lengths,), B beyond, the cost of that policy.

    ``ValueError`` when the bracket cannot be closed to ``tolerance``: a load too near 1, or to 0.
    """
    last = FIRST_BATCHES * queue.max_batch
    values, total = np.zeros(last + 1), 0
    while last <= MOST_LENGTHS and total < MOST_STEPS:
        equation = _Equation(queue, last, policy)
        found, values, steps = _iterate(equation, values, tolerance)
        total += steps
        if found is not None:
            low, high, decisions = found
            return Optimum(queue, low, high, decisions, values, total)
        last *= 2
    raise ValueError(
        f"load {queue.load:.4g}, batches to {queue.max_batch}: value iteration does not close the bracket of the cost "
        f"to {tolerance:g} within {total} steps; give another load, or smaller batches."
    )


def _iterate(
    equation: _Equation, values: Floats, tolerance: float
) -> tuple[tuple[float, float, NDArray[np.int64]] | None, Floats, int]:
    """Value iteration from ``values``: bracket and decisions, or None; the values to continue from; the steps."""
    inside = equation.last + 1
    step_s, cost = float(np.min(equation.time_s)), 0.0
    for steps in range(MOST_STEPS):
        with np.errstate(over="ignore", invalid="ignore"):  # near a load of 1 it may diverge: then with more lengths
            rates = equation.rates(values, cost)
        best = rates.min(axis=0)
        low, high = float(best.min()), float(best.max())
        if high - low <= tolerance * low:
            return (low, high, np.argmin(rates[:, :inside], axis=0)), values, steps
        cost = float(best[:inside].min())  # the lower bound of g: with the upper one the quadratic diverges
        if not math.isfinite(high):
            return None, np.zeros(2 * equation.last + 1), steps
        if best[:inside].max() - cost <= 0.1 * tolerance * cost:  # only the quadratic does not fit yet
            break
        values = values + step_s * best[:inside]
        values -= values[0]
    return None, equation.continued(values, cost, 2 * equation.last), steps
