"""Progress of long work: lines without a terminal, the time left, and what is said after the first stage."""

from __future__ import annotations

import pytest

from llmsched.eval.cli import progress
from llmsched.eval.cli.progress import LongRun, Progress
from llmsched.eval.runs.under_way import Look, Part


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time stands still but for what is put there; lines are as far apart as they are for users."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "LINE_S", 30.0)
    progress.Silence.begin()
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
    assert LongRun.current() is None


def test_without_a_terminal_a_line_is_written_now_and_then(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    """100 runs of 1 s: three lines, with the time left."""
    with Progress("comparing", 100) as shown:
        for _ in range(100):
            clock[0] += 1.0
            shown.step("static, seed 0")
    assert capsys.readouterr().err.splitlines() == [
        "comparing: 30 of 100, 1 min 10 s left",
        "comparing: 60 of 100, 40 s left",
        "comparing: 90 of 100, 10 s left",
    ]


def test_many_short_pieces_are_one_silence(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    """A search makes many Progress of some seconds: no line of theirs is due alone, and all the same one is written
    every 30 s.  After a pause the time begins anew."""
    for number in range(20):
        with Progress(f"rate {number}", 4) as shown:
            for _ in range(4):
                clock[0] += 1.0
                shown.step()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["rate 7", "rate 14"] and "left" in lines[0]
    clock[0] += 1000.0
    with Progress("later", 2) as shown:
        clock[0] += 20.0
        shown.step()
    assert capsys.readouterr().err == ""


def test_a_short_command_and_stored_runs_write_nothing(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    """29 s of work; and a restart, which reads all runs."""
    with Progress("short", 29) as shown:
        for _ in range(29):
            clock[0] += 1.0
            shown.step()
    progress.Silence.begin()
    with Progress("again", 1000) as shown:
        for _ in range(1000):
            shown.step(stored=True)
    assert capsys.readouterr().err == ""


def test_one_long_piece_is_followed_by_a_line(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    """The first run of three, which compiles, takes 100 s, and says nothing about the others."""
    with Progress("comparing", 3) as shown:
        for seconds in (100.0, 40.0):
            clock[0] += seconds
            shown.step()
    assert capsys.readouterr().err.splitlines() == ["comparing: 1 of 3", "comparing: 2 of 3, 40 s left"]


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
    assert capsys.readouterr().err.startswith("\r0 of 1 stages, 18 s left; a: 1 of 10  static")


def test_a_piece_that_takes_long_is_seen_on_its_way(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    """Without a terminal a line every 30 s, before the first piece has ended; none of a piece that takes a moment."""
    with Progress("comparing", 1) as shown:
        for second in range(100):
            clock[0] += 1.0
            known = [Part("rollout, seed 0", second / 100, float(second)), Part("static, seed 0", 0.5, 0.2)]
            shown.look(Look(known, 99.0 - second if second > 40 else None))
    assert capsys.readouterr().err.splitlines() == [
        "comparing: 0 of 1 (rollout, seed 0: 29 %)",
        "comparing: 0 of 1, 40 s left (rollout, seed 0: 59 %)",
        "comparing: 0 of 1, 10 s left (rollout, seed 0: 89 %)",
    ]


def test_what_is_seen_of_the_pieces_says_the_time_left(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    """A short piece that ended beside it says nothing about a long one."""
    with Progress("comparing", 3) as shown:
        clock[0] += 1.0
        shown.step()
        shown.look(Look([Part("b", None, 0.5)], None))
        clock[0] += 30.0
        shown.step()
    assert capsys.readouterr().err.splitlines() == ["comparing: 2 of 3"]


def test_a_terminal_shows_the_pieces_under_way(
    clock: list[float], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares, or times where no share is known, and the number of those that have no place; in a long run too."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    parts = [
        Part("a", 0.124, 2.0),
        Part("b", None, 75.0),
        Part("c", 0.0, 3.0),
        Part("d", 0.5, 3.0),
        Part("e", 0.5, 3.0),
    ]
    with Progress("runs", 9) as shown:
        shown.look(Look(parts, 60.0))
        assert capsys.readouterr().err == ""  # no command is so short that it shows anything
        clock[0] += 2.0
        shown.look(Look(parts, 60.0))
        assert capsys.readouterr().err == "\rruns: 0 of 9, 1 min 0 s left  a: 12 %; b: for 1 min 15 s; c: 0 %; 2 more"
        shown.look(Look([], 60.0))
        assert capsys.readouterr().err == ""
    with LongRun("long.py", "stages", {"a": 10}) as long_run, long_run.stage("a"), Progress("a", 10) as shown:
        clock[0] += 2.0
        shown.look(Look(parts[:1], None))
    assert "\r0 of 1 stages; a: 0 of 10  a: 12 %" in capsys.readouterr().err
