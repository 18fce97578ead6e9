"""Ctrl-C in a command: ``KeyboardInterrupt``, again and again until somebody has heeded it.

Python drops an exception that comes while it runs a finaliser or a callback (``Exception ignored in ...``), so one
Ctrl-C in a thousand would be lost, and a command that runs for minutes would go on.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from typing import Any

AGAIN_S = 0.3
"""Seconds until an interrupt that nobody heeded is raised again."""

_heeded = threading.Event()
_insisting = threading.Lock()


def interrupt(number: int, frame: Any) -> None:
    """The handler of SIGINT: raises ``KeyboardInterrupt``, and sees to it that it is not lost."""
    if _insisting.acquire(blocking=False):  # one thread at a time
        _heeded.clear()
        threading.Thread(target=_insist, daemon=True).start()
    raise KeyboardInterrupt


interrupt.raises_interrupt = True  # type: ignore[attr-defined]  # what simulation.compiled_calls asks a handler


def _insist() -> None:
    main = threading.main_thread().ident or 0
    while not _heeded.wait(AGAIN_S):
        if hasattr(signal, "pthread_kill"):  # a real signal: it wakes the main thread from a wait
            signal.pthread_kill(main, signal.SIGINT)
        else:
            _thread.interrupt_main()
    _insisting.release()


def heed() -> None:
    """Called first where ``KeyboardInterrupt`` is caught: it has arrived."""
    _heeded.set()


def install() -> None:
    """Handle SIGINT so from now on, and let Python say nothing of an interrupt that it drops; main thread only."""
    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = _say_unless_interrupt


def _say_unless_interrupt(dropped: Any) -> None:
    if dropped.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(dropped)
