"""Runs that are looked at while they are made: how far they are, the time that is left, and that nothing changes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval.runs import runner, under_way
from llmsched.eval.runs.cells import CellStore, Crew
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell, outcome_of_cell, run_cell, run_cells, run_stream, watch_of
from llmsched.eval.runs.under_way import Course, Look, Tracked
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse
from llmsched_env.core.layout import LANE
from llmsched_env.simulation.result import Watch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SYSTEMS = {
    "batches": ("multibin", "--requests 300 --rate 12"),
    "iterations": ("vllm", "--engine continuous --requests 300"),
    "impatient": ("static", "--requests 300 --rate 14 --patience 1.5 --queue-cap 40"),
    "too large": ("static", "--requests 300 --kv-tokens 2000"),
    "a duration": ("static", "--duration 60"),
    "a horizon": ("static", "--requests 300 --horizon 10"),
    "a closed loop": ("static", "--requests 300 --concurrency 20"),
}


def cell_of(system: str) -> Cell:
    policy, words = SYSTEMS[system]
    return Cell(policy, parse(policy), scenario_of(*words.split()), 0)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_is_whole_at_its_end_and_the_same(system: str) -> None:
    """Whatever becomes of the requests, and whatever ends the run; being watched changes no byte."""
    cell, watch = cell_of(system), Watch()
    requests = cell.scenario.draw(0)
    assert watch.share is None and watch.began_s is None
    seen = run_cell(cell, requests, watch)
    assert watch.share == 1.0 and watch.began_s is not None
    assert seen.requests.tobytes() == run_cell(cell, requests).requests.tobytes()


def test_a_streamed_run_is_seen_from_chunk_to_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its requests, or by its time where only a duration ends it; memory that grows loses nothing."""
    monkeypatch.setattr(runner, "CHUNK", 100)
    for words in ("--requests 1000 --rate 40", "--duration 100 --rate 10"):
        cell = Cell("static", parse("static"), scenario_of(*words.split()), 0, streamed=True)
        watch = watch_of(cell)
        shares = [watch.share or 0.0 for _ in run_stream(cell, watch)]
        assert shares == sorted(shares) and 0.0 < shares[0] < 0.2 and len(set(shares)) > 8 and shares[-1] == 1.0


def test_a_run_of_unknown_length_has_no_share() -> None:
    """Only the time that it has been made is known."""
    watch = Watch()
    watch.follow(np.zeros(1, LANE))
    run = Tracked("a", "a, seed 0", 10, watch)
    with run.made():
        part = run.look(time.monotonic() + 5.0)
    assert part.share is None and part.seconds == pytest.approx(5.0, abs=1.0)


def test_looks_come_while_runs_are_made_and_stored_runs_are_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time, each of which waits until it was seen; the outcomes are those of runs that nobody looks at."""
    monkeypatch.setattr(runner, "LOOK_S", 0.001)
    cells = [dataclasses.replace(cell_of("batches"), seed=seed) for seed in range(6)]
    plain = dict(run_cells(cells, 1))
    store, looks, seen = CellStore(tmp_path / "cells.jsonl"), list[Look](), set[str]()
    list(Crew(store=store).run_cells(cells[:3]))

    def look(at: Look) -> None:
        looks.append(at)
        seen.update(part.name for part in at.parts)

    def waiting(cell: Cell, *others: Any) -> Outcome:
        end = time.monotonic() + 10.0
        while f"multibin, seed {cell.seed}" not in seen and time.monotonic() < end:
            time.sleep(0.001)
        return outcome_of_cell(cell, *others)

    monkeypatch.setattr(runner, "outcome_of_cell", waiting)
    found = {run.place: run.outcome for run in Crew(2, store).run_cells(cells, look)}
    assert seen == {f"multibin, seed {seed}" for seed in range(3, 6)}
    assert max(len(at.parts) for at in looks) <= 2
    for place in range(6):
        ours, theirs = ({**kept[place].summary, "wall_s": 0.0} for kept in (found, plain))
        assert repr(ours) == repr(theirs)
    looks.clear()
    list(Crew(2, store).run_cells(cells, look))
    assert looks == []


class Made:
    """Runs as threads would make them, on a clock that stands still but for ``wait``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, labels: str, jobs: int) -> None:
        self.now = 1000.0
        monkeypatch.setattr(under_way.time, "monotonic", lambda: self.now)
        self.runs = [Tracked(label, label, 100, Watch(1_000_000)) for label in labels]
        self.lanes = [np.zeros(1, LANE) for _ in labels]
        self.course = Course(self.runs, jobs)
        self.stacks = [ExitStack() for _ in labels]

    def begin(self, place: int) -> None:
        self.stacks[place].enter_context(self.runs[place].made())

    def go(self, seconds: float, rate: dict[int, float]) -> Look:
        """Time passes, in looks of 0.2 s; ``rate``: share per second of the runs whose kernel is at work."""
        look = self.course.look()
        for place in rate:
            self.runs[place].watch.follow(self.lanes[place])
        for _ in range(round(seconds / 0.2)):
            self.now += 0.2
            for place, each in rate.items():
                self.lanes[place]["counts"]["completed"] += round(0.2 * each * 1_000_000)
            look = self.course.look()
        return look

    def end(self, place: int) -> None:
        self.stacks[place].close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Made]:
    return lambda labels, jobs: Made(monkeypatch, labels, jobs)


def test_one_run_has_a_time_left_that_compilation_does_not_move(made: Callable[[str, int], Made]) -> None:
    """40 s of compilation, then 100 s of work, and 100 s again; nothing is said in the first two seconds of work."""
    one = made("aa", 1)
    one.begin(0)
    assert one.go(40.0, {}).left_s is None
    assert one.go(1.8, {0: 0.01}).left_s is None
    assert one.go(3.2, {0: 0.01}).left_s == pytest.approx(95.0 + 100.0, abs=1.0)
    assert one.go(45.0, {0: 0.01}).left_s == pytest.approx(50.0 + 100.0, abs=1.0)
    late = one.go(50.0, {0: 0.002}).left_s  # slower in the second half
    assert late == pytest.approx(200.0 + 300.0, rel=0.1)


def test_a_slow_policy_among_fast_ones_does_not_make_the_others_slow(made: Callable[[str, int], Made]) -> None:
    """a takes 1 s and b 100 s: no estimate while nobody knows b, then what it has left and two more of a."""
    four = made("abaa", 1)
    four.begin(0)
    four.go(1.0, {0: 1.0})
    four.end(0)
    four.begin(1)
    assert four.go(1.6, {1: 0.01}).left_s is None
    assert four.go(8.4, {1: 0.01}).left_s == pytest.approx(90.0 + 2.0, rel=0.02)


def test_jobs_share_what_is_left_and_the_longest_is_waited_for(made: Callable[[str, int], Made]) -> None:
    """Two of 20 s at a time, six in all: 60 s; at the end, alone, what the longest has left."""
    six = made("aaaaaa", 2)
    for place in (0, 1):
        six.begin(place)
    assert six.go(10.0, {0: 0.05, 1: 0.05}).left_s == pytest.approx(50.0, rel=0.05)
    two = made("ab", 2)
    for place in (0, 1):
        two.begin(place)
    assert two.go(10.0, {0: 0.09, 1: 0.01}).left_s == pytest.approx(90.0, rel=0.05)


def test_a_run_that_was_seen_too_short_is_expected_to_be_like_others(made: Callable[[str, int], Made]) -> None:
    """Runs of 1 s are never seen for long enough; one that takes longer makes the estimate unknown."""
    many = made("a" * 10, 1)
    for place in range(4):
        many.begin(place)
        many.go(1.0, {place: 1.0})
        many.end(place)
    many.begin(4)
    assert many.go(0.4, {}).left_s == pytest.approx(5.6, rel=0.05)
    assert many.go(1.0, {}).left_s is None
