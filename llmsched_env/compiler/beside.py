"""Another process that compiles the small functions of a first use while this one compiles an engine.

It is Numba's files on disk that the two share: who comes later reads what the other one has written.  Nobody waits, so
nothing is lost but time where the other process cannot be started, fails or is killed.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from numba import config

SETTINGS: Any = config

MODULE = "llmsched_env.envs.first_use"
"""Where its work is."""

CHILD = "import importlib, sys; importlib.import_module(sys.argv[1]).compile_small()"

ALONE = "LLMSCHED_COMPILE_ALONE"
"""The environment variable of processes that start no other one."""

_started: list[subprocess.Popen] = []


def start_beside() -> None:
    """Start it, once in this process."""
    if _started or not may_start():
        return
    with suppress(OSError, ValueError):
        command = [sys.executable, "-P", "-c", CHILD, MODULE]  # -P: nothing from the folder that the user is in
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=environment(), stdin=quiet, stdout=quiet, stderr=quiet)
        _started.append(process)
        atexit.register(end, process)
        threading.Thread(target=process.wait, daemon=True).start()  # no zombie stays


def may_start() -> bool:
    """Whether there is a core for it, and an interpreter; children of `multiprocessing` are many and start none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    interpreter = bool(sys.executable) and not getattr(sys, "frozen", False)
    return cores > 1 and interpreter and not os.environ.get(ALONE) and multiprocessing.parent_process() is None


def environment() -> dict[str, str]:
    """Of the other process: it imports what this one would, and writes where this one reads."""
    found = {**os.environ, ALONE: "1", "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return {**found, "NUMBA_CACHE_DIR": SETTINGS.CACHE_DIR} if SETTINGS.CACHE_DIR else found


def end(process: subprocess.Popen) -> None:
    """Kill it, where it still runs: whatever it would compile is not needed any more, or compiled."""
    with suppress(OSError):
        process.kill()
