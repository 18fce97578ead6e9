"""Progress with the time left, on standard error: a line that is overwritten at a terminal, and of a long course of
work (Course) a line now and then where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

QUIET_S = 0.5
"""Nothing is shown before this time: short work needs no progress."""

LINE_S = 30.0
"""Least time between two lines of a course where standard error is no terminal, and least estimate worth a line."""


class Course:
    """Long work in stages of about known size, in runs; use as a context.

    While it is under way, everything that shows its progress (Progress) says what is left of the whole too.
    """

    _under_way: list[Course] = []  # one standard error, hence one list; the last is the innermost

    def __init__(self, label: str, what: str, stages: Mapping[str, float]) -> None:
        """``what`` the stages are called, and their names with how many runs each takes."""
        self._label, self._what, self._stages = label, what, dict(stages)
        self._ended, self._ended_runs, self._runs_here = 0, 0.0, 0
        self._made = 0
        self._began = self._said = time.monotonic()
        self._cpu_began = time.process_time()

    def __enter__(self) -> Course:
        Course._under_way.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        Course._under_way.remove(self)

    @classmethod
    def current(cls) -> Course | None:
        """The course under way."""
        return cls._under_way[-1] if cls._under_way else None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage, from its begin to its end; after the first in which runs were made, how long all will take."""
        estimated = self._made > 0
        yield
        self._ended += 1
        self._ended_runs += self._stages[name]
        self._runs_here = 0
        if not estimated and self._made and self.left_s >= LINE_S:
            cpu_s = (time.process_time() - self._cpu_began) / self._made
            total = sum(self._stages.values())
            self.say(
                f"about {duration(self.left_s)} for the {len(self._stages) - self._ended} {self._what} that are left "
                f"({total:,.0f} runs in all, {1000 * cpu_s:.1f} ms of CPU each)"
            )

    def step(self, *, kept: bool) -> None:
        """One more run is there; ``kept``: from before."""
        self._runs_here += 1
        self._made += not kept

    @property
    def left_s(self) -> float:
        """Time left (s), at the pace of the runs made so far; inf before the first."""
        if self._made == 0:
            return float("inf")
        sizes = list(self._stages.values())
        here = min(self._runs_here, sizes[self._ended]) if self._ended < len(sizes) else 0.0
        return (time.monotonic() - self._began) / self._made * (sum(sizes) - self._ended_runs - here)

    @property
    def text(self) -> str:
        """How far it is."""
        left = f", {duration(self.left_s)} left" if self._made else ""
        return f"{self._ended} of {len(self._stages)} {self._what}{left}"

    def say(self, what: str) -> None:
        """Write a line."""
        self._said = time.monotonic()
        print(f"{self._label}: {what}", file=sys.stderr, flush=True)

    def say_if_due(self, what: str) -> None:
        """Write a line when the last is LINE_S ago."""
        if time.monotonic() - self._said >= LINE_S:
            self.say(what)


class Progress:
    """Counts ``total`` pieces of work under a ``label``; use as a context, so that the line is wiped.

    ``work``: how much all pieces are together, where they differ (default: every piece is 1).
    """

    def __init__(self, label: str, total: int, work: float | None = None) -> None:
        self._label, self._total, self._done = label, total, 0
        self._left = float(total if work is None else work)
        self._made = 0.0
        self._began = time.monotonic()
        self._shown = 0
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print(f"\r{' ' * self._shown}\r", end="", file=sys.stderr, flush=True)
            self._shown = 0

    def step(self, what: str = "", work: float = 1.0, *, kept: bool = False) -> None:
        """One more piece is done, of this much ``work``; ``what`` names it; ``kept``: it was there and took no time."""
        self._done += 1
        self._left -= work
        self._made += 0.0 if kept else work
        course = Course.current()
        if course is not None:
            course.step(kept=kept)
            if not self._live:
                course.say_if_due(f"{course.text}; {self._label}: {self._done} of {self._total}")
        spent = time.monotonic() - self._began
        if not self._live or spent < QUIET_S or self._made == 0.0:
            return
        left = spent / self._made * self._left
        whole = f"{course.text}; " if course is not None else ""
        line = f"{whole}{self._label}: {self._done} of {self._total}, {duration(left)} left  {what}"[:110]
        print(f"\r{line:{self._shown}}", end="", file=sys.stderr, flush=True)
        self._shown = len(line)


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
