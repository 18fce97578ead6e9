"""Progress and the time left, on standard error.

At a terminal a line that is overwritten; elsewhere (a file, a job's log) a line from time to time, and none of a short
command.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from llmsched.eval.runs.under_way import Look, Part
from llmsched_env.commands.terminal import say
from llmsched_env.files.showing import visible

QUIET_S = 0.5
"""Nothing is shown before this time."""

MOMENT_S = 1.0
"""A piece under way is shown from this time on."""

MOST_PARTS = 3
"""Pieces under way that are shown; of others the number."""

LINE_S = 30.0
"""Without a terminal: least time between two lines, and least estimate that is written."""


class Silence:
    """How long nothing was written without a terminal, over all Progress and LongRun of the process: commands make
    many short ones, each of which would write nothing."""

    _used = _said = -float("inf")  # when work was last counted, when a line was last written

    @classmethod
    def begin(cls) -> None:
        """A command begins: the time before it does not count."""
        cls._used = cls._said = time.monotonic()

    @classmethod
    def work(cls) -> None:
        """Work begins or goes on; after a pause it counts as a beginning."""
        now = time.monotonic()
        if not 0.0 <= now - cls._used <= LINE_S:
            cls._said = now
        cls._used = now

    @classmethod
    def say_if_due(cls, what: str) -> None:
        """Write a line if the last one is LINE_S old."""
        now = cls._used = time.monotonic()
        if now - cls._said >= LINE_S:
            cls.say(what)

    @classmethod
    def say(cls, what: str) -> None:
        """Write a line."""
        cls._said = time.monotonic()
        say(what)


class LongRun:
    """Work in stages, each of about a known number of runs; use as a context.

    Inside the context every Progress also shows what is left of the whole.
    """

    _open: list[LongRun] = []  # one list, because there is one standard error; the last is the innermost

    def __init__(self, label: str, what: str, stages: Mapping[str, float]) -> None:
        """``what``: the word for the stages; ``stages``: number of runs by the name of the stage."""
        self._label, self._what, self._stages = label, what, dict(stages)
        self._ended, self._ended_runs, self._runs_here = 0, 0.0, 0
        self._made = 0
        self._began = time.monotonic()
        self._cpu_began = time.process_time()
        Silence.work()

    def __enter__(self) -> LongRun:
        LongRun._open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        LongRun._open.remove(self)

    @classmethod
    def current(cls) -> LongRun | None:
        """The innermost long run that is open; None where there is none."""
        return cls._open[-1] if cls._open else None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One stage, as a context; after the first in which runs were made the time for all is estimated."""
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

    def step(self, *, stored: bool) -> None:
        """Count one more run; ``stored``: it was read from the store."""
        self._runs_here += 1
        self._made += not stored

    @property
    def left_s(self) -> float:
        """Time left in seconds, at the rate of the runs made so far; inf before the first."""
        if self._made == 0:
            return float("inf")
        sizes = list(self._stages.values())
        here = min(self._runs_here, sizes[self._ended]) if self._ended < len(sizes) else 0.0
        return (time.monotonic() - self._began) / self._made * (sum(sizes) - self._ended_runs - here)

    @property
    def text(self) -> str:
        """Stages done, and the time left."""
        left = f", {duration(self.left_s)} left" if self._made else ""
        return f"{self._ended} of {len(self._stages)} {self._what}{left}"

    def say(self, what: str) -> None:
        """Write a line."""
        Silence.say(f"{self._label}: {what}")

    def say_if_due(self, what: str) -> None:
        """Write a line if the last one is LINE_S old."""
        Silence.say_if_due(f"{self._label}: {what}")


class Progress:
    """Counts ``total`` pieces of work under a ``label``; use as a context, so that its line is erased at the end.

    ``work``: the size of all pieces together, where they differ (default: every piece is 1).
    """

    def __init__(self, label: str, total: int, work: float | None = None) -> None:
        self._label, self._total, self._done = label, total, 0
        self._left = float(total if work is None else work)
        self._made = 0.0
        self._began = time.monotonic()
        self._first: tuple[float, float] | None = None  # end and size of the first piece that was made
        self._seen: Look | None = None
        self._shown = 0
        self._live = sys.stderr.isatty()
        Silence.work()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print(f"\r{' ' * self._shown}\r", end="", file=sys.stderr, flush=True)
            self._shown = 0

    def step(self, what: str = "", work: float = 1.0, *, stored: bool = False) -> None:
        """Count one more piece, of size ``work``; ``what`` names it; ``stored``: it was read and took no time."""
        self._done += 1
        self._left -= work
        now = time.monotonic()
        if not stored:
            self._made += work
            self._first = self._first or (now, work)
        long_run = LongRun.current()
        if long_run is not None:
            long_run.step(stored=stored)
        self._show(now, what, shown_live=self._made > 0)

    def look(self, seen: Look) -> None:
        """Show the pieces that are under way, and from then on the time left that follows from them."""
        self._seen = seen
        self._show(time.monotonic(), "", shown_live=bool(parts_text(seen.parts)))

    def _show(self, now: float, what: str, *, shown_live: bool) -> None:
        """Write the line, where it is due; ``what``: the piece that was counted last."""
        long_run = LongRun.current()
        here = f"{self._label}: {self._done} of {self._total}"
        left = self._estimate(now)
        parts = parts_text(self._seen.parts) if self._seen is not None else ""
        if not self._live:
            under_way = f" ({parts})" if parts else ""
            if long_run is not None:
                long_run.say_if_due(f"{long_run.text}; {here}{under_way}")
            else:
                Silence.say_if_due(f"{here}{left}{under_way}")
        elif now - self._began >= QUIET_S and shown_live:
            whole = f"{long_run.text}; " if long_run is not None else ""
            line = visible(f"{whole}{here}{left}  {parts or what}")[:110]
            print(f"\r{line:{self._shown}}", end="", file=sys.stderr, flush=True)
            self._shown = len(line)

    def _estimate(self, now: float) -> str:
        """The time left in words: by the pieces under way where they are seen, else by the pieces after the first,
        which also compiles; empty before anything is known."""
        if self._seen is not None:
            return "" if self._seen.left_s is None else f", {duration(self._seen.left_s)} left"
        if self._first is None or self._made <= self._first[1]:
            return ""
        began, work = self._first
        return f", {duration((now - began) / (self._made - work) * self._left)} left"


def parts_text(parts: Sequence[Part]) -> str:
    """The pieces under way that take more than a moment: how far each is, or for how long it has been made."""
    slow = [part for part in parts if part.seconds >= MOMENT_S]
    shares = [f"for {duration(part.seconds)}" if part.share is None else f"{100 * part.share:.0f} %" for part in slow]
    texts = [f"{part.name}: {share}" for part, share in zip(slow[:MOST_PARTS], shares, strict=False)]
    more = [f"{len(slow) - MOST_PARTS} more"] if len(slow) > MOST_PARTS else []
    return "; ".join(texts + more)


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
