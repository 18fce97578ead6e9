"""Calls of compiled code that takes a compiled function or a random generator: Ctrl-C waits until they return.

Numba asks Python for the addresses of such an argument.  A ``KeyboardInterrupt`` that is raised there is lost, and the
call goes on with an address that is not there: a segmentation fault, or another exception.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any


def call_compiled(entry: Callable, *arguments: Any) -> Any:
    """``entry(*arguments)``; ``KeyboardInterrupt`` after it when Ctrl-C came during the call.

    The caller keeps calls shorter than a second.  Only the main thread hears of signals, and a program that handles
    them itself keeps its handler.
    """
    if threading.current_thread() is not threading.main_thread():
        return entry(*arguments)
    handler: Any = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler and not getattr(handler, "raises_interrupt", False):
        return entry(*arguments)
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        return entry(*arguments)
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(came[0], None)  # raises KeyboardInterrupt


class Pace:
    """How many decisions a call may make so that it takes a fraction of a second: Ctrl-C waits for its end.

    A policy that calls Python, or a model, is some thousand times slower than one that is compiled.  The results do
    not depend on the pace.
    """

    FEWEST, MOST = 1, 100_000
    SHORT_S, LONG_S = 0.05, 0.3

    def __init__(self) -> None:
        self.decisions = 1_000

    def took(self, seconds: float) -> None:
        """Adapt to a call that took so long."""
        if seconds < self.SHORT_S:
            self.decisions = min(8 * self.decisions, self.MOST)
        elif seconds > self.LONG_S:
            self.decisions = max(self.decisions // 8, self.FEWEST)
