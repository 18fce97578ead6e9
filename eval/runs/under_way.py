"""Runs while they are made: how far each is, and the time until all are.

A run may take minutes, and one of a policy a thousand times as long as one of another.  So the time left is made of
what the runs under way show of themselves, and of what finished runs under the same label took.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llmsched_env.simulation.result import Watch

SURE_S = 2.0
"""Nothing is estimated from a shorter look at a run, and nothing at all before this time."""

STEP = 0.01
"""Share of the time it is seen after which another point of a run is kept."""


@dataclass(frozen=True)
class Part:
    """A run under way: its ``name``, the ``share`` of it that is made (None: not known), for how many ``seconds``."""

    name: str
    share: float | None
    seconds: float


@dataclass(frozen=True)
class Look:
    """What is seen of the runs at one time: those under way, first begun first, and the time ``left_s`` (s) until all
    are made; None: nobody can say yet."""

    parts: Sequence[Part]
    left_s: float | None


class Tracked:
    """One run, from its place in the list to its end.

    ``label``: runs of the same label take about the same time per piece of ``work``; ``name``: what users read.
    """

    def __init__(self, label: str, name: str, work: int, watch: Watch) -> None:
        self.label, self.name, self.work, self.watch = label, name, work, watch
        self.begun_s: float | None = None
        self.ended_s: float | None = None
        self._first_s = 0.0  # when it was first seen that something of it is made
        self._points: list[tuple[float, float]] = []  # (time, share made), of the second half of the time since then

    @contextmanager
    def made(self) -> Iterator[Watch]:
        """A context of the thread that makes the run, with the watch to give to it."""
        self.begun_s = time.monotonic()
        try:
            yield self.watch
        finally:
            self.ended_s = time.monotonic()

    def look(self, now: float) -> Part:
        """How far it is, which is kept as a point of its course."""
        share, points = self.watch.share, self._points
        if share:
            if not points:
                self._first_s = now
            if not points or now - points[-1][0] >= STEP * (now - self._first_s):
                points.append((now, share))
            while len(points) > 2 and points[1][0] <= (self._first_s + now) / 2:
                points.pop(0)
        return Part(self.name, share, now - (self.begun_s or now))

    def took_s(self, now: float) -> float:
        """Seconds from its first event to ``now``: what comes before, such as compilation, is no part of a run."""
        return now - (self.watch.began_s or self.begun_s or now)

    def left_s(self, now: float, share: float | None) -> float | None:
        """Seconds that it has left at its rate of late; None: it has not been seen for long enough."""
        if share is None or not self._points or now - self._first_s < SURE_S:
            return None
        then, before = self._points[0]
        return (1.0 - share) * (now - then) / (share - before) if share > before else None


class Paces:
    """Seconds per piece of work, by label; of a label that is not known the mean of those that are."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._work: dict[str, int] = defaultdict(int)

    def add(self, label: str, seconds: float, work: int) -> None:
        """A run of the label takes, or took, so long."""
        self._seconds[label] += seconds
        self._work[label] += work

    def with_those(self, runs: Sequence[tuple[Tracked, float]]) -> Paces:
        """These, and runs under way with the seconds that each takes as a whole."""
        found = Paces()
        found._seconds |= self._seconds
        found._work |= self._work
        for run, seconds in runs:
            found.add(run.label, seconds, run.work)
        return found

    @property
    def unknown(self) -> bool:
        """Whether nothing is known of any label."""
        return not self._work

    def of(self, label: str) -> float:
        """Seconds per piece of work."""
        labels = [label] if label in self._work else list(self._work)
        return sum(self._seconds[known] / self._work[known] for known in labels) / len(labels)


class Course:
    """The runs of one list, begun in its order, ``jobs`` at a time, as the main thread sees them."""

    def __init__(self, runs: Sequence[Tracked], jobs: int) -> None:
        self._runs, self._jobs = runs, jobs
        self._began = time.monotonic()
        self._paces = Paces()
        self._running: list[Tracked] = []
        self._begun = 0  # runs that were seen to have begun
        self._waiting: Counter[str] = Counter()  # work of the others, by label
        for run in runs:
            self._waiting[run.label] += run.work

    def look(self) -> Look:
        """What is seen now."""
        now = time.monotonic()
        while self._begun < len(self._runs) and self._runs[self._begun].begun_s is not None:
            run = self._runs[self._begun]
            self._waiting[run.label] -= run.work
            self._running.append(run)
            self._begun += 1
        running = []
        for run in self._running:
            if run.ended_s is None:
                running.append(run)
            else:
                self._paces.add(run.label, run.took_s(run.ended_s), run.work)
        self._running = running
        parts = [run.look(now) for run in self._running]
        return Look(parts, self._left_s(now, parts) if now - self._began >= SURE_S else None)

    def _left_s(self, now: float, parts: Sequence[Part]) -> float | None:
        """Seconds until all are made: those of all runs shared among the jobs, and at least those of the longest."""
        own = [run.left_s(now, part.share) for run, part in zip(self._running, parts, strict=True)]
        seen = [(run, run.took_s(now) + left) for run, left in zip(self._running, own, strict=True) if left is not None]
        paces = self._paces.with_those(seen)
        if paces.unknown:
            return None
        lefts = []
        for run, part, left in zip(self._running, parts, own, strict=True):
            expected = paces.of(run.label) * run.work - part.seconds
            if left is None and expected < 0.0:
                return None  # it takes longer than others did, and nobody knows how much
            lefts.append(expected if left is None else left)
        waiting = sum(paces.of(label) * work for label, work in self._waiting.items())
        at_once = min(self._jobs, len(lefts) + len(self._runs) - self._begun)
        return max(max(lefts, default=0.0), (sum(lefts) + waiting) / max(1, at_once))
