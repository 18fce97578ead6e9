"""Runs of policies over seeds, several at a time; the results do not depend on how many.

Threads suffice: the compiled kernel releases Python's lock, and arrivals are drawn once per seed and shared by all
policies (common random arrivals).  Stored runs, and runs on other machines: llmsched.eval.runs.cells.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from llmsched.eval.runs.outcome import Outcome, outcome_of, outcome_of_stream
from llmsched.eval.runs.under_way import Course, Look, Tracked
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound, ReadyPolicy
from llmsched_env import engines
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult, Watch
from llmsched_env.simulation.route_call import run_entry
from llmsched_env.simulation.simulator import simulate
from llmsched_env.simulation.streaming import simulate_stream
from llmsched_env.workload.streams import streams
from llmsched_env.workload.workload import Workload

T = TypeVar("T")

CHUNK = 1_000_000
"""Requests of a streamed run that are in memory at a time, besides those in the system."""

LOOK_S = 0.2
"""Seconds between two looks of the main thread: at the runs, and for Ctrl-C, where the system does not interrupt its
wait."""

TYPICAL_REQUESTS = 20_000
"""Requests of a run whose number is not given, for the estimate of the time left."""


@dataclass(frozen=True)
class Cell:
    """One run to make: the policy in the scenario under the seed.

    ``label``: its name in the outcome; ``split``: the split of the arrivals; ``timeline``: whether to keep one;
    ``streamed``: in fixed memory, with percentiles exact to 0.5 % and without a timeline.
    """

    label: str
    policy: Bound
    scenario: Scenario
    seed: int
    split: str = "test"
    timeline: bool = False
    streamed: bool = False

    @property
    def in_pieces(self) -> bool:
        """Whether the run is streamed: arrivals that depend on answers cannot be."""
        return self.streamed and not self.scenario.workload.linked

    @property
    def work(self) -> int:
        """About how many requests the run has."""
        return self.scenario.workload.requests or TYPICAL_REQUESTS

    @property
    def arrivals(self) -> tuple[Workload, int, str]:
        """Everything that the arrivals depend on, and nothing else."""
        return self.scenario.workload, self.seed, self.split


class SharedArrivals:
    """Arrivals, drawn once for all cells that share (workload, seed, split), and freed after the last use."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._lock = threading.Lock()
        self._left: dict[tuple[Workload, int, str], int] = {}
        self._drawn: dict[tuple[Workload, int, str], tuple[threading.Lock, list[Requests]]] = {}
        for cell in cells:
            key = cell.arrivals
            self._left[key] = self._left.get(key, 0) + 1
            self._drawn.setdefault(key, (threading.Lock(), []))

    def take(self, cell: Cell) -> Requests:
        """The arrivals of ``cell``."""
        key = cell.arrivals
        lock, kept = self._drawn[key]
        with lock:
            if not kept:
                kept.append(cell.scenario.draw(cell.seed, cell.split))
            requests = kept[0]
        with self._lock:
            self._left[key] -= 1
            if self._left[key] == 0:
                del self._drawn[key]
        return requests


def run_cell(cell: Cell, requests: Requests, watch: Watch | None = None) -> RunResult:
    """Simulate one cell; the random numbers of the policy and of the latency noise come from its seed.

    ``watch`` tells other threads how far it is.

    Raises ``ValueError`` that names the policy when its code fails or its answer is not allowed.
    """
    with _named(cell):
        ready, warmup = cell.policy.ready(cell.scenario.config), cell.scenario.scored(len(requests)).start
        common = {**_common(cell, ready), "watch": watch}
        return simulate(ready.config, requests, ready.decide, log_batches=cell.timeline, warmup=warmup, **common)


def run_stream(cell: Cell, watch: Watch | None = None) -> Iterator[RunResult]:
    """The same run in pieces: arrivals are drawn, and ended requests yielded, chunk by chunk."""
    if any(cell.scenario.cut):
        raise ValueError("a streamed run does not know where its last requests begin: do not cut it.")
    with _named(cell):
        ready, warmup = cell.policy.ready(cell.scenario.config), cell.scenario.workload.warmup
        chunks = cell.scenario.workload.chunks(cell.seed, CHUNK, cell.split)
        common = {**_common(cell, ready), "watch": watch}
        yield from simulate_stream(ready.config, chunks, ready.decide, warmup=warmup, **common)


def _common(cell: Cell, ready: ReadyPolicy) -> dict[str, Any]:
    rngs = streams(cell.seed, cell.split)
    own = {"rng": rngs["policy"], "route": ready.route(rngs["routing"])}
    return {**ready.options, **own, "noise_key": int(rngs["noise"].integers(2**63))}


@contextmanager
def _named(cell: Cell) -> Iterator[None]:
    """Put the policy before the message of an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{cell.label}: {error}") from None


def outcome_of_cell(cell: Cell, arrivals: SharedArrivals, watch: Watch | None = None) -> Outcome:
    """Make the run and reduce it.

    The engine is compiled before anything else, while another process compiles the rest (compiler.beside).
    """
    run_entry(engines.get(cell.scenario.config.engine), cell.scenario.config)
    if cell.in_pieces:
        return outcome_of_stream(cell.label, cell.seed, run_stream(cell, watch))
    result = run_cell(cell, arrivals.take(cell), watch)
    end = cell.scenario.scored(len(result.requests)).stop
    return outcome_of(cell.label, cell.seed, result, timeline=cell.timeline, end=end)


def run_cells(
    cells: Sequence[Cell], jobs: int, look: Callable[[Look], None] | None = None
) -> Iterator[tuple[int, Outcome]]:
    """(place in ``cells``, outcome) as they finish, ``jobs`` at a time; the first error of a run is raised.

    ``look`` is called every LOOK_S with what is seen of the runs.
    """
    arrivals = SharedArrivals([cell for cell in cells if not cell.in_pieces])
    runs = [Tracked(cell.label, f"{cell.policy.label}, seed {cell.seed}", cell.work, watch_of(cell)) for cell in cells]
    course = Course(runs, jobs)

    def made(place: int) -> tuple[int, Outcome]:
        with runs[place].made() as watch:
            return place, outcome_of_cell(cells[place], arrivals, watch)

    def show() -> None:
        if look is not None:
            look(course.look())

    shown = time.monotonic()
    for place, outcome in run_tasks([partial(made, place) for place in range(len(cells))], jobs, show):
        if time.monotonic() - shown >= LOOK_S:
            show()
            shown = time.monotonic()
        yield place, outcome


def watch_of(cell: Cell) -> Watch:
    """A watch for the run of ``cell``: how long a streamed one is, only its workload knows."""
    workload = cell.scenario.workload
    if not cell.in_pieces:
        return Watch()
    return Watch(workload.most_requests, math.inf if workload.duration_s is None else workload.duration_s)


def run_tasks(tasks: Sequence[Callable[[], T]], jobs: int, look: Callable[[], None] | None = None) -> Iterator[T]:
    """Results of ``tasks`` as they finish, ``jobs`` threads at a time, begun in order.

    ``look`` is called every LOOK_S in which nothing finishes.

    The threads are daemons: a caller that stops iterating, as after Ctrl-C, waits for none of them.  Meanwhile the main
    thread calls no compiled code, where an interrupt could leave an exception half raised.
    """
    waiting: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    stop = threading.Event()
    for _ in range(min(jobs, len(tasks))):
        threading.Thread(target=_work, args=(waiting, done, stop), daemon=True).start()
    try:
        for _ in tasks:
            result, error = _next(done, look)
            if error is not None:
                raise error
            yield result
    finally:
        stop.set()


def _work(waiting: queue.SimpleQueue, done: queue.SimpleQueue, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            done.put((task(), None))
        except Exception as error:
            done.put((None, error))


def _next(done: queue.SimpleQueue, look: Callable[[], None] | None) -> tuple:
    while True:
        try:
            return done.get(timeout=LOOK_S)
        except queue.Empty:
            if look is not None:
                look()
