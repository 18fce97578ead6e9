"""What the machine allows: the counts behind the rows, and rows that say what they measured."""

from __future__ import annotations

import re

import numpy as np
import pytest

from llmsched.eval.speed import limits
from llmsched_env.core.layout import REQUEST


def test_reads_that_wait_for_each_other_visit_every_place() -> None:
    following = limits.one_cycle(257)
    place, seen = 0, set()
    for _ in following:
        place = int(following[place])
        seen.add(place)
    assert place == 0 and len(seen) == 257
    assert limits.chase(following, 257) == 0 and limits.chase(following, 1) == following[0]


def test_the_arithmetic_of_a_training_step() -> None:
    """Two networks of two hidden layers; a product of (n, a) and (a, b) takes 2 n a b operations."""
    actor, critic = [(80, 64), (64, 64), (64, 134)], [(80, 64), (64, 64), (64, 1)]
    forward = sum(2 * a * b for a, b in actor + critic)
    assert limits.learning_flops() == forward * (1 + 4 * 3)  # a rollout, and four epochs forward and twice backward


def test_the_bytes_of_a_request_are_those_of_the_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIZES", (500,))
    rows = limits.measure_requests(1, 4_000)
    assert [row.name for row in rows] == [
        f"{name}, {n} requests" for name in ("static", "sarathi") for n in ("500", "4,000")
    ]
    assert all(row.value > 0.0 and row.unit == "ns/request" for row in rows)
    for row in rows:
        held, own = map(int, re.findall(r"(\d+)(?: bytes|$)", row.note))
        assert own == REQUEST.itemsize <= held
    few, many = (int(row.note.split()[0]) for row in rows[:2])
    assert few > many  # what does not grow with the run is shared by more requests


def test_a_lane_holds_its_requests() -> None:
    (row,) = limits.measure_lanes(512)
    assert row.unit == "kB" and row.value > 500 * REQUEST.itemsize / 1e3
    assert "512 lanes" in row.note


def test_memory_and_arithmetic_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMED", 2**12)
    monkeypatch.setattr(limits, "CHASED", 1000)
    monkeypatch.setattr(limits, "ROWS", 64)
    rows = limits.measure_memory(1) + limits.measure_arithmetic(1)
    assert all(np.isfinite(row.value) and row.value > 0.0 for row in rows)
    products, most = rows[2:]
    assert most.value == pytest.approx(1e9 * products.value / limits.learning_flops())
