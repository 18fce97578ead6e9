"""A line of progress with the time left, on standard error and only at a terminal."""

from __future__ import annotations

import sys
import time

QUIET_S = 0.5
"""Nothing is shown before this time: short work needs no progress."""


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
        spent = time.monotonic() - self._began
        if not self._live or spent < QUIET_S or self._made == 0.0:
            return
        left = spent / self._made * self._left
        line = f"{self._label}: {self._done} of {self._total}, {duration(left)} left  {what}"[:110]
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
