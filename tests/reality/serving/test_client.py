"""What keeps a client in time: no collection of garbage during a run, and its turn before other programs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

pytest.importorskip("aiohttp", reason="the client needs aiohttp")

from llmsched.eval.reality.serving.client import Served, Target
from llmsched.eval.reality.serving.entrant import Entrant
from llmsched.eval.reality.serving.experiment import remarks, run_once
from llmsched.eval.reality.serving.pauses import no_garbage_pauses
from llmsched.eval.reality.serving.priority import may_go_first, served_first
from llmsched_env.requests import Requests
from tests.reality.serving.fake import Fake, serving

LINUX = hasattr(os, "sched_setscheduler")


def test_during_a_run_nothing_holds_the_client_up() -> None:
    """Both hold while requests are sent, and neither before nor after."""
    seen: list[tuple[bool, bool]] = []

    def now() -> tuple[bool, bool]:
        return gc.isenabled(), LINUX and os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR

    with serving(Fake()) as fake:
        entrant = Entrant("a", open=lambda: Target(fake.url, "tiny"))
        before = now()
        requests = Requests.checked([0.0, 0.01], [4, 4], [2, 2])
        rows, _ = run_once(entrant, requests, 1, 20.0, note_start=lambda _: seen.append(now()))
    assert [row.error for row in rows] == ["", ""]
    assert before == now() == (True, False)
    assert seen == [(False, may_go_first())]


def test_collections_come_back_after_an_error() -> None:
    """And where there were none before there are none after."""
    with pytest.raises(KeyError), no_garbage_pauses():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with no_garbage_pauses():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.skipif(not LINUX, reason="another scheduler")
def test_the_turn_is_given_back_and_not_inherited() -> None:
    """After an error too; a process that is started meanwhile is an ordinary one."""
    usual = os.sched_getscheduler(0)
    command = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
    with pytest.raises(KeyError), served_first():
        assert int(subprocess.run(command, capture_output=True, check=True).stdout) == os.SCHED_OTHER
        raise KeyError
    assert os.sched_getscheduler(0) == usual


@pytest.mark.skipif(not LINUX, reason="another scheduler")
def test_who_may_not_goes_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed, so nothing is given back."""
    asked: list[int] = []

    def refuse(*_: object) -> None:
        asked.append(1)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert not may_go_first() and asked == [1]


def test_a_late_client_is_said_with_its_remedy() -> None:
    """From one request in a hundred on."""
    rows = [Served(0.0, 0.0, 0.1, 0.2, 1) for _ in range(100)]
    rows[0].sent = rows[1].sent = 0.02
    (said,) = remarks(rows)
    assert "late with 2 requests" in said and "core" in said
    rows[1].sent = 0.0
    assert remarks(rows) == []
