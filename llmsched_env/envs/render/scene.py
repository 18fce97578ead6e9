"""What there is to see of one lane at an instant: numbers read from its stamps, nothing of what is still to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core import layout

if TYPE_CHECKING:
    from llmsched_env.envs.lanes import Lanes

WINDOW_S = 120.0
"""How far the picture looks back."""


@dataclass(frozen=True)
class Batch:
    """A batch that has begun: times in s, clipped at now; its members' bins and own last tokens (inf: to come).

    In the engine `continuous`: all that a server had in its running set in the window, joining at ``joined``.
    """

    server: int
    queue: int  # the bin that was chosen, behind the bins the overdue queue; NONE: any
    size: int
    start: float
    end: float
    running: bool
    bins: NDArray[np.int8]
    last_token: NDArray[np.float64]
    joined: NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """One lane at ``now`` (s)."""

    config: SimConfig
    now: float
    loaded: int  # requests of the episode
    arrived: int
    done: int  # completed, rejected, dropped, refused or abandoned
    in_service: int
    asked: int  # server whose decision is pending, or NONE
    waiting: NDArray[np.int64]  # by queue: the bins, then the overdue queue where there is one
    past_deadline: NDArray[np.int64]  # of these the ones past their deadline
    queued: list[tuple[NDArray[np.float64], NDArray[np.float64]]]  # by queue: sorted times of joining and of leaving
    misses: NDArray[np.float64]  # times of all SLO misses so far, ascending
    batches: list[Batch]  # those seen in the window
    of_batches: bool  # they are batches that run to completion; otherwise running sets

    def waiting_at(self, times: NDArray[np.floating]) -> NDArray[np.int64]:
        """Waiting requests by queue at each of ``times`` up to now, (queues, len(times)); second waits of preempted
        requests count while they last and are forgotten after."""
        count = [
            np.searchsorted(joined, times, side="right") - np.searchsorted(left, times, side="right")
            for joined, left in self.queued
        ]
        return np.array(count)


def scene_at(lanes: Lanes, lane: int = 0, at_s: float | None = None) -> Scene:
    """The scene of lane ``lane`` now, or at an earlier instant ``at_s``."""
    simulator, config = lanes.simulator, lanes.config
    row = simulator.lane[lane]
    present = at_s is None or at_s >= row["now"]
    now = float(row["now"]) if at_s is None or present else at_s
    rows = np.asarray(simulator.requests[lane, : int(row["next_arrival"])])
    rows = rows[rows["arrival"] <= now]
    rejected = rows["status"] == layout.REJECTED
    dispatched = rows["dispatch"] <= now
    returned = (rows["status"] == layout.WAITING) & (rows["generated"] > 0) if present else np.zeros(len(rows), bool)
    gone = rows["left"] <= now
    waits = ~rejected & ~gone & (~dispatched | returned)
    dropped = (rows["status"] == layout.DROPPED) & (rows["last_token"] <= now)
    done = rejected | dropped | gone | (rows["completion"] <= now)
    number = config.queueing.num_queues
    due = rows["arrival"] + np.array([slo.deadline_s for slo in config.server_slos])[rows["slo_class"]] <= now
    queued = []
    place = np.where(rows["overdue"] == 1, number - 1, rows["bin"])  # of the overdue as if they had come there at once
    for k in range(number):
        mine = place == k
        first = mine & ~rejected
        joined = np.concatenate([rows["arrival"][first], rows["last_token"][mine & returned]])
        left = np.concatenate([rows["dispatch"][first & dispatched], rows["left"][first & gone & ~dispatched]])
        queued.append((np.sort(joined), np.sort(left)))
    return Scene(
        config=config,
        now=now,
        loaded=int(row["loaded"]),
        arrived=len(rows),
        done=int(done.sum()),
        in_service=int((dispatched & ~done & ~returned).sum()),
        asked=int(row["asked"]) if present else layout.NONE,
        waiting=np.bincount(place[waits], minlength=number),
        past_deadline=np.bincount(place[waits & due], minlength=number),
        queued=queued,
        misses=miss_times(rows, config, now),
        batches=_running_sets(rows, config, now)
        if not lanes.engine.logs_batches
        else _batches(rows, np.asarray(simulator.log[lane, : int(row["counts"]["logged"])]), config, now),
        of_batches=lanes.engine.logs_batches,
    )


def miss_times(rows: NDArray, config: SimConfig, now: float) -> NDArray[np.float64]:
    """Instants up to ``now`` at which arrived requests missed their SLO (docs/reference/semantics.md), ascending."""
    targets = np.array([(slo.ttft_s, slo.tpot_s, slo.e2e_s) for slo in config.server_slos])[rows["slo_class"]]
    first, last, completion = rows["first_token"], rows["last_token"], rows["completion"]
    when = np.full(len(rows), np.inf)
    for stamp, target in ((first, targets[:, 0]), (completion, targets[:, 2])):
        deadline = rows["arrival"] + target
        when = np.where(stamp <= deadline, when, np.minimum(when, deadline))
    gaps = rows["output"] - 1
    slow = (gaps > 0) & (last - first > targets[:, 1] * np.maximum(gaps, 1))
    when = np.where(slow & (completion < when), completion, when)
    when = np.where((rows["status"] == layout.DROPPED) & (last < when), last, when)
    when = np.where(rows["status"] == layout.REJECTED, rows["arrival"], when)
    when = np.fmin(when, rows["left"])
    return np.sort(when[when <= now])


def _queue_of(choice: int, config: SimConfig) -> int:
    """The queue (see Batch) that a choice of the log means."""
    bins = config.queueing.num_bins
    return choice if choice < bins else layout.NONE if choice == bins else bins


def _batches(rows: NDArray, log: NDArray, config: SimConfig, now: float) -> list[Batch]:
    """The logged batches that were running in the window; number i of the log is batch i."""
    seen = np.flatnonzero((log["start"] <= now) & (log["end"] > now - WINDOW_S))
    order = np.argsort(rows["batch"], kind="stable")
    numbers = rows["batch"][order]
    batches = []
    for i in seen:
        members = rows[order[np.searchsorted(numbers, i) : np.searchsorted(numbers, i, side="right")]]
        last, running = members["last_token"], bool(log["end"][i] > now)
        batches.append(
            Batch(
                server=int(log["server"][i]),
                queue=_queue_of(int(log["choice"][i]), config),
                size=int(log["size"][i]),
                start=float(log["start"][i]),
                end=now if running else float(log["end"][i]),
                running=running,
                bins=members["bin"],
                last_token=np.where(last <= now, last, np.inf),
                joined=np.full(len(last), -np.inf),
            )
        )
    return batches


def _running_sets(rows: NDArray, config: SimConfig, now: float) -> list[Batch]:
    """Members of every server in the window; ``size`` is the most that any server had at once.

    A preempted request is drawn from its first admission to its end, on its last server.
    """
    begin = max(now - WINDOW_S, 0.0)
    gone = np.where(rows["completion"] <= now, rows["completion"], np.inf)
    gone = np.where(rows["status"] == layout.DROPPED, np.fmin(rows["last_token"], gone), gone)
    returned = (rows["status"] == layout.WAITING) | (rows["status"] == layout.REFUSED)
    gone = np.where(returned & (rows["generated"] > 0), rows["last_token"], gone)
    seen = (rows["dispatch"] <= now) & (gone > begin) & (rows["server"] != layout.NONE)
    sets = [rows[seen & (rows["server"] == s)] for s in range(len(config.servers))]
    ends = [gone[seen & (rows["server"] == s)] for s in range(len(config.servers))]
    most = max((_most_at_once(mine["dispatch"], end) for mine, end in zip(sets, ends, strict=True)), default=0)
    return [
        Batch(s, layout.NONE, max(most, 1), begin, now, True, mine["bin"], end, mine["dispatch"])
        for s, (mine, end) in enumerate(zip(sets, ends, strict=True))
    ]


def _most_at_once(joined: NDArray[np.float64], gone: NDArray[np.float64]) -> int:
    """Largest number of intervals [joined, gone) that overlap."""
    inside = np.searchsorted(np.sort(joined), joined, side="right")
    return int((inside - np.searchsorted(np.sort(gone), joined, side="right")).max(initial=0))
