"""What the oracle shows to a policy, under the names of the decision record, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.oracles.batch.requests import IN_SERVICE, WAITING, Request
from tests.oracles.continuous.cache import Pool


@dataclass(frozen=True)
class View:
    """What a scheduler may know; tuples have an entry per bin, one for `any`, and one for the overdue queue where
    there is one.

    With push routing queues are those of the asked server.
    """

    now: float
    server: int
    num_bins: int
    overdue: int  # the choice that means the overdue queue, or -1
    num_servers: int
    max_batch: int
    can_wait: int
    at_tick: int
    waiting: int
    oldest_arrival: float  # of the waiting request of smallest number that is not overdue; inf: all are
    running: int  # members of the asked server
    decoding: int
    kv_used: int  # tokens in the blocks of its next iteration
    queue_length: tuple[int, ...]
    head_number: tuple[int, ...]  # -1 where nothing waits
    target: tuple[int, ...]
    prefix_cache: int
    head_cached: tuple[int, ...]  # tokens of the first request that the asked server would find
    cache_hit_rate: float
    kv_kept: int


def oldest_arrival(waiting: Iterable[Request]) -> float:
    """Arrival of the request of smallest number that is not overdue; inf where there is none."""
    in_time = [request for request in waiting if not request.overdue]
    return min(in_time, key=lambda request: request.number).arrival if in_time else math.inf


Decide = Callable[[View], tuple[int, int]]


@dataclass(frozen=True)
class Decision:
    """A question, its answer as given, and what came of it."""

    time: float
    server: int
    bin: int
    size: int
    admitted: tuple[int, ...]  # request numbers
    preempted: tuple[int, ...]  # by choice
    view: View


@dataclass
class ContinuousResult:
    """Everything that a run leaves behind; the arrays have a row per request."""

    planned: list[int]  # the row of the Requests that request i is; those that never arrived last
    arrival: NDArray[np.float64]
    dispatch: NDArray[np.float64]
    first_token: NDArray[np.float64]
    last_token: NDArray[np.float64]
    completion: NDArray[np.float64]
    left: NDArray[np.float64]
    reason: NDArray[np.str_]
    status: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    predicted: NDArray[np.int64]
    generated: NDArray[np.int64]  # tokens of earlier stays
    cached: NDArray[np.int64]  # tokens found in the prefix cache
    decisions: list[Decision]
    waits: int
    empty_choices: int
    segments: int
    iterations: list[tuple[float, int, int, int]]  # boundary, server, members that decoded, tokens prefilled
    busy: list[float]  # s, by server
    peak_blocks: list[int]  # by server
    pools: list[Pool]  # of the servers with a prefix cache
    gaps: NDArray[np.float64]  # between consecutive tokens of a request, s
    in_system_integral: float
    end: float

    def count(self, *statuses: int) -> int:
        """Requests that ended with one of these."""
        return int(np.isin(self.status, statuses).sum())

    @property
    def unfinished(self) -> int:
        """Requests that had not ended when the run was cut off."""
        return self.count(WAITING, IN_SERVICE)


COLUMNS = (
    "arrival",
    "dispatch",
    "first_token",
    "last_token",
    "completion",
    "left",
    "reason",
    "status",
    "preemptions",
    "predicted",
    "generated",
    "cached",
)
"""Attributes of a request of which the result has an array."""


def columns(requests: Sequence[Request]) -> dict[str, NDArray]:
    """The arrays of a result: attribute -> (N,)."""
    return {name: np.array([getattr(request, name) for request in requests]) for name in COLUMNS}


def scripted(choices: list[tuple[int, int]]) -> Decide:
    """These decisions, over and over."""
    asked = -1

    def decide(view: View) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return choices[asked % len(choices)]

    return decide


def cap(size: int) -> Decide:
    """The first of all bins, up to so many at a time."""
    return lambda view: (view.num_bins, size)
