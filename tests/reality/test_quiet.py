"""Measurements beside other programs: what they disturbed is taken again, and only that."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import pytest

from llmsched.eval.calibration.cells import DECODE, GridCell
from llmsched.eval.calibration.device import quiet
from llmsched.eval.calibration.device.quiet import Undisturbed, others_s

CELL = GridCell(DECODE, 1, 8)
MS = 30.0


class Machine:
    """Every measurement lasts 30 ms and gives its number; ``busy`` says which ones others ran beside."""

    def __init__(self, busy=()):
        self.busy, self.calls, self.others = busy, 0, 100.0

    def sample(self, cell):
        time.sleep(MS / 1e3)
        self.others += 0.5 if self.calls in self.busy else 0.0
        self.calls += 1
        return float(self.calls)

    def serve(self, prompts, outputs):
        return self.sample(CELL), 1.0


def watched(machine, patience_s=math.inf):
    return Undisturbed(machine, patience_s, others=lambda: machine.others, pause_s=0.0)


def test_what_others_disturbed_is_taken_again():
    machine = Machine(busy={0, 1, 3})
    runner = watched(machine)
    assert [runner.sample(CELL), runner.sample(CELL)] == [3.0, 5.0]
    assert runner.serve([1], [1]) == (6.0, 1.0)
    assert (runner.again, runner.disturbed) == (3, 0)


def test_patience_has_an_end_and_the_rest_is_counted():
    machine = Machine(busy=range(100))
    runner = watched(machine, patience_s=2.5 * MS / 1e3)
    found = [runner.sample(CELL) for _ in range(3)]
    assert found == [4.0, 5.0, 6.0]
    assert (runner.again, runner.disturbed) == (3, 3)


def test_without_counters_everything_counts():
    runner = Undisturbed(Machine(), math.inf, others=lambda: None)
    assert runner.sample(CELL) == 1.0 and (runner.again, runner.disturbed) == (0, 0)


def test_the_others_are_what_is_left_of_the_systems_counters(tmp_path, monkeypatch):
    """User, nice, system, interrupts and stolen time, not idle and waiting; less our own."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 50 40 9000 700 5 5 30 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    monkeypatch.setattr(quiet, "STAT", stat)
    monkeypatch.setattr(quiet.os, "sysconf", lambda _: 100)
    monkeypatch.setattr(quiet.os, "times", lambda: SimpleNamespace(user=1.0, system=0.3))
    assert others_s() == pytest.approx((100 + 50 + 40 + 5 + 5 + 30) / 100 - 1.3)
    monkeypatch.setattr(quiet, "STAT", tmp_path / "none")
    assert others_s() is None
