"""What a policy sees when a free server is asked, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class LastBatch:
    """What a server remembers of the batch that it completed last (zeros before the first)."""

    completed_batches: int = 0
    size: int = 0
    service_s: float = 0.0  # dispatch to end
    max_e2e_s: float = 0.0  # over the members that completed in it
    peak_kv_share: float = 0.0  # of eta; 0 where there is no limit


@dataclass(frozen=True)
class View:
    """What a scheduler may know when a free server is asked; lists have an entry per bin, one for `any`, and one
    for the overdue queue where there is one."""

    now: float
    server: int
    num_bins: int
    max_batch: int
    lengths: tuple[int, ...]  # entry K is what `any` offers
    head_number: tuple[int, ...]  # -1 where nothing waits
    head_arrival: tuple[float, ...]  # NaN where nothing waits
    head_prompt: tuple[int, ...]
    head_predicted: tuple[int, ...]
    queues: tuple[tuple[int, ...], ...]  # request numbers in order of service; `any` mixes no overdue with others
    targets: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    free_servers: int
    waiting: int
    oldest_number: int  # smallest number that waits and is not overdue; -1: all are
    oldest_arrival: float  # of that one; inf: all are overdue
    can_wait: bool  # can any event come?
    tick: bool  # is now a multiple of the tick?
    last: LastBatch

    @property
    def any(self) -> int:
        """The bin number that means all bins."""
        return self.num_bins


Decide = Callable[[View], tuple[int, int]]
