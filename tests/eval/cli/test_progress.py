"""Progress of long work: lines without a terminal, the time left, and what is said after the first stage."""

from __future__ import annotations

import pytest

from llmsched.eval.cli import progress
from llmsched.eval.cli.progress import LongRun, Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time stands still but for what is put there."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_long_run_writes_a_line_now_and_then_without_a_terminal(
    clock: list[float], capsys: pytest.CaptureFixture
) -> None:
    """200 runs of 1 s in two stages: after 100 the estimate, else a line every 30 s; none when it is over."""
    with LongRun("long.py", "stages", {"a": 100, "b": 100}) as long_run:
        for name in ("a", "b"):
            with long_run.stage(name), Progress(name, 100) as shown:
                for _ in range(100):
                    clock[0] += 1.0
                    shown.step()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "long.py: 0 of 2 stages, 2 min 50 s left; a: 30 of 100"
    assert lines[3].startswith("long.py: about 1 min 40 s for the 1 stages that are left (200 runs in all, ")
    assert lines[4] == "long.py: 1 of 2 stages, 1 min 10 s left; b: 30 of 100" and len(lines) == 7
    with Progress("short", 2) as shown:
        clock[0] += 100.0
        shown.step()
    assert capsys.readouterr().err == "" and LongRun.current() is None


def test_runs_that_were_kept_take_no_time(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    """After a kill: nothing is estimated from them, and they count as done."""
    with LongRun("long.py", "stages", {"a": 100, "b": 50, "c": 50}) as long_run:
        with long_run.stage("a"), Progress("a", 100) as shown:
            for _ in range(100):
                shown.step(stored=True)
        assert capsys.readouterr().err == "" and long_run.text == "1 of 3 stages"
        with long_run.stage("b"), Progress("b", 50) as shown:
            for _ in range(50):
                clock[0] += 1.0
                shown.step()
        assert long_run.left_s == pytest.approx(50.0)
    assert "about 50 s for the 1 stages" in capsys.readouterr().err


def test_a_terminal_shows_the_whole_and_the_part(
    clock: list[float], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with LongRun("long.py", "stages", {"a": 10}) as long_run, long_run.stage("a"), Progress("a", 10) as shown:
        clock[0] += 2.0
        shown.step("static")
    assert capsys.readouterr().err.startswith("\r0 of 1 stages, 18 s left; a: 1 of 10, 18 s left  static")
