"""Calls of compiled code and Ctrl-C: the call ends, then KeyboardInterrupt; a slow policy is asked in short calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmsched_env.simulation.compiled_calls import Pace, call_compiled

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _python_hears_ctrl_c() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which lets them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _signalled(ended: list[str]) -> str:
    """Ctrl-C in the middle, and what is said when the call went on to its end."""
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10):  # the signal is heard between two instructions of Python
        time.sleep(0)
    ended.append("whole")
    return "answer"


def test_a_call_ends_before_ctrl_c_is_heard() -> None:
    """Nothing inside is cut short; afterwards Ctrl-C is what it was."""
    ended: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        call_compiled(_signalled, ended)
    assert ended == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert call_compiled(max, 3, 4) == 4


def test_ctrl_c_outweighs_what_the_call_raises() -> None:
    """Who interrupts wants the end, whatever else went wrong."""

    def failing() -> None:
        _signalled([])
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        call_compiled(failing)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_stay() -> None:
    """A program that handles Ctrl-C itself hears it at once."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        assert call_compiled(_signalled, []) == "answer"
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads() -> None:
    """Signals cannot be handled there, and need not be."""
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(call_compiled(max, 1, 2)))
    thread.start()
    thread.join()
    assert answers == [2]


def test_pace() -> None:
    """Short calls get longer up to a limit, long ones shorter, and none is empty."""
    pace = Pace()
    for _ in range(20):
        pace.took(0.0)
    assert pace.decisions == Pace.MOST
    pace.took(0.1)
    assert pace.decisions == Pace.MOST
    pace.took(1.0)
    assert pace.decisions == Pace.MOST // 8
    for _ in range(20):
        pace.took(1.0)
    assert pace.decisions == Pace.FEWEST


LOST = """
import sys, time, weakref
from llmsched_env.commands.process import run_and_exit, run_guarded

class Thing:
    pass

def slow(_):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(0.6)  # the signal comes here: in a callback, where Python drops what is raised

def work(argv):
    thing = Thing()
    kept = weakref.ref(thing, slow)
    del thing
    time.sleep(60)
    return 0

run_and_exit(lambda: run_guarded("lost", work, []))
"""


def test_an_interrupt_that_python_drops_comes_again() -> None:
    """Ctrl-C during a callback of the garbage collector: the command ends all the same, with one line."""
    with subprocess.Popen([sys.executable, "-c", LOST], stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None and process.stderr.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130
    assert error == "lost: interrupted before it was finished\n"
