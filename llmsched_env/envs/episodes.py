"""Episodes: the requests of one reset, drawn from the lane's own generator and from nothing else."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np

from llmsched_env.envs.options import EnvOptions
from llmsched_env.requests import Requests
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import NothingComesError, Series, Workload

MOST_AHEAD = 8
"""Episodes drawn in one go, at most (1, 2, 4, 8, 8, ... after a seeding): a draw has a fixed price."""

AHEAD_BYTES, REQUEST_BYTES = 2.0**28, 24.0
"""Memory that the episodes of all lanes that are drawn but not begun may take, about; and of one of their requests."""

MOST_EMPTY = 1000
"""Draws in which nothing comes before `duration_s`, after which it is refused; an episode has a request at least."""

SAMPLE = 1000
"""Requests drawn to see how short prompts can be."""


class Episodes:
    """The endless series of episodes of one lane of ``lanes``.

    Where the options fix one generator, its rate and the number of requests, several episodes are cut from one
    draw: an episode then continues the arrival process of the one before.  The n-th episode after a seeding depends
    on the seed and on n alone.
    """

    def __init__(self, options: EnvOptions, lanes: int = 1) -> None:
        self._options, self._lanes = options, lanes
        self._workloads = options.workloads
        first = self._workloads[0]
        self._rates = options.rates
        self._sliced = (
            len(self._workloads) == 1
            and isinstance(first, Workload)
            and first.trace is None
            and not first.linked
            and options.duration_s is None
            and (self._rates is None or self._rates[0] == self._rates[1])
        )
        self._ready: list[Requests] = []
        self._ahead = 1
        self._series: Series | None = None
        self._clock = 0.0

    @property
    def capacity(self) -> int:
        """Most requests that an episode can have."""
        most = 0
        for workload in self._workloads:
            if isinstance(workload, Requests):
                most = max(most, len(workload))
            elif self._options.requests is not None:
                most = max(most, int(self._options.requests))
            else:
                assert self._options.duration_s is not None
                rate = workload.mean_rate if self._rates is None else self._rates[1]
                most = max(most, int(4.0 * rate * self._options.duration_s) + 1000)
        return most

    @property
    def shortest_prompt(self) -> int:
        """Tokens of about the shortest prompt that an episode can have."""
        return min(int(_sample(workload).prompt_tokens.min()) for workload in self._workloads)

    def complete(self, requests: Requests) -> bool:
        """Whether an episode holds all that it could, or was cut off at `duration_s`: then more would have come."""
        return isinstance(self._workloads[0], Requests) or len(requests) == self._options.requests

    def forget(self) -> None:
        """Start the series anew (after a seeding)."""
        self._ready.clear()
        self._ahead = 1
        self._series, self._clock = None, 0.0

    def draw(self, rng: np.random.Generator) -> Requests:
        """The next episode's requests."""
        if self._sliced:
            if not self._ready:
                self._ready = self._several(rng)
            return self._ready.pop(0)
        workload = self._workloads[0 if len(self._workloads) == 1 else int(rng.integers(len(self._workloads)))]
        if isinstance(workload, Requests):
            return workload
        if self._rates is not None and self._rates[0] < self._rates[1]:
            low, high = np.log(self._rates)
            workload = self._options.workload_of(workload.source, math.exp(rng.uniform(low, high)))
        for _ in range(MOST_EMPTY):
            with suppress(NothingComesError):
                requests = workload.draw(int(rng.integers(2**62)))
                return cut(requests, 0, min(len(requests), self.capacity))
        raise ValueError(
            f"duration_s={self._options.duration_s!r} is over before anything comes at {workload.mean_rate:g} "
            "requests/s: give a longer one."
        )

    def _several(self, rng: np.random.Generator) -> list[Requests]:
        first, n, count = self._workloads[0], int(self._options.requests or 0), self._ahead
        assert isinstance(first, Workload)
        most = int(AHEAD_BYTES / (self._lanes * n * REQUEST_BYTES))
        self._ahead = min(2 * self._ahead, MOST_AHEAD, max(1, most))
        if self._series is None:
            self._series = first.series(int(rng.integers(2**62)))
        requests = self._series.take(count * n)
        assert requests is not None
        start, self._clock = self._clock, float(requests.arrival_s[-1])
        return [cut(requests, i * n, (i + 1) * n, start) for i in range(count)]


def _sample(workload: Workload | Requests) -> Requests | Trace:
    """All that can come, or what is likely to."""
    if isinstance(workload, Requests):
        return workload
    return workload.trace or replace(workload, requests=SAMPLE, duration_s=None).draw(0, "calibration")


def cut(requests: Requests, first: int, last: int, start: float = 0.0) -> Requests:
    """Requests first, ..., last - 1; their clock starts at the arrival before them (at ``start`` for the first)."""
    return requests.part(first, last, requests.arrival_s[first - 1] if first > 0 else start)
