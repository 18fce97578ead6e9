"""The rule by which weights are kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.train.retuning.judging import LABELS, Verdict, verdict

GENERIC = np.array([0.05, 0.20, 0.10, 0.15])


def verdict_of(change: np.ndarray) -> Verdict:
    """A verdict where the new weights miss ``change`` more, part by part."""
    return Verdict(np.stack([GENERIC, GENERIC + change], axis=1), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("change", "better"),
    [
        ([-0.01, -0.02, -0.01, -0.02], True),  # fewer everywhere
        ([-0.10, 0.01, 0.01, 0.01], False),  # fewer on average, by one part alone
        ([0.0, 0.0, 0.0, 0.0], False),  # the same weights
        ([0.01, 0.02, 0.01, 0.02], False),  # surely more
        ([-0.01, -0.01, -0.01, -0.01], True),  # without any spread
    ],
)
def test_new_weights_are_kept_only_where_the_interval_says_better(change: list[float], better: bool) -> None:
    """Fewer misses, and an interval over parts without 0."""
    found = verdict_of(np.array(change))
    assert found.better is better
    assert found.difference == interval(list(found.missed[:, 1] - found.missed[:, 0]))


def test_parts_differ_more_than_weights_do() -> None:
    """The interval is of the paired difference: that of the misses themselves would say nothing here."""
    found = verdict_of(np.full(4, -0.01) + np.array([0.0, 0.001, 0.0, 0.001]))
    alone = interval(list(GENERIC)).half
    assert found.better and alone is not None and alone > 3 * abs(found.difference.mean)


def test_the_gain_is_the_difference_in_units_of_the_generic_misses() -> None:
    """And undefined where nothing is missed."""
    found = verdict_of(np.array([-0.01, -0.02, -0.01, -0.02]))
    assert found.gain.mean == pytest.approx(0.015 / GENERIC.mean())
    assert found.gain.half == pytest.approx(found.difference.half / GENERIC.mean())
    nothing = Verdict(np.zeros((4, 2)), np.zeros((2, 2)))
    assert math.isnan(nothing.gain.mean) and not nothing.better


def test_seeds_of_a_part_are_one_observation() -> None:
    """Runs come part by part, seed by seed, generic first; the interval is over parts, not over runs."""
    shares = {
        (part, seed): (0.9 - 0.01 * part, 0.92 - 0.01 * part + 0.001 * seed) for part in range(3) for seed in range(2)
    }
    outcomes = [
        Outcome(
            label, seed, {"slo_attainment": value, "mean_e2el_ms": 1.0, "p99_e2el_ms": 2.0}, np.zeros((3, 1), np.int64)
        )
        for (_, seed), both in shares.items()
        for label, value in zip(LABELS, both, strict=True)
    ]
    found = verdict(outcomes, 3)
    assert found.missed == pytest.approx(np.array([[0.1 + 0.01 * p, 0.08 + 0.01 * p - 0.0005] for p in range(3)]))
    assert found.details.tolist() == [[1.0, 2.0]] * 2
