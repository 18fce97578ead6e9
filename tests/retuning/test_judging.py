"""The rule by which weights are kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.train.retuning.judging import FACTORS, GENERIC, RETUNED, Verdict, verdict

MISSED = np.array([0.05, 0.20, 0.10, 0.15])
LABELS = (GENERIC, RETUNED)


def verdict_of(change: np.ndarray) -> Verdict:
    """A verdict where the new weights miss ``change`` more, part by part."""
    return Verdict(LABELS, np.stack([MISSED, MISSED + change], axis=1), np.zeros((2, 2)))


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
    assert (found.kept == 1) is better
    assert found.difference(1) == interval(list(found.missed[:, 1] - found.missed[:, 0]))


def test_parts_differ_more_than_weights_do() -> None:
    """The interval is of the paired difference: that of the misses themselves would say nothing here."""
    found = verdict_of(np.full(4, -0.01) + np.array([0.0, 0.001, 0.0, 0.001]))
    alone = interval(list(MISSED)).half
    assert found.kept == 1 and alone is not None and alone > 3 * abs(found.difference(1).mean)


def test_the_gain_is_the_difference_in_units_of_the_generic_misses() -> None:
    """And undefined where nothing is missed."""
    found = verdict_of(np.array([-0.01, -0.02, -0.01, -0.02]))
    assert found.gain(1).mean == pytest.approx(0.015 / MISSED.mean())
    assert found.gain(1).half == pytest.approx(found.difference(1).half / MISSED.mean())
    nothing = Verdict(LABELS, np.zeros((4, 2)), np.zeros((2, 2)))
    assert math.isnan(nothing.gain(1).mean) and nothing.kept is None and nothing.shown == 1


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
    found = verdict(LABELS, outcomes, 3)
    assert found.missed == pytest.approx(np.array([[0.1 + 0.01 * p, 0.08 + 0.01 * p - 0.0005] for p in range(3)]))
    assert found.details.tolist() == [[1.0, 2.0]] * 2


def three(factors: list[float], retuned: list[float]) -> Verdict:
    """A verdict on two candidates that miss so much more, part by part."""
    missed = np.stack([MISSED, MISSED + np.array(factors), MISSED + np.array(retuned)], axis=1)
    return Verdict((GENERIC, FACTORS, RETUNED), missed, np.zeros((3, 2)))


SURELY, PERHAPS = [-0.01, -0.02, -0.01, -0.02], [-0.20, 0.05, 0.01, 0.01]


@pytest.mark.parametrize(
    ("factors", "retuned", "kept"),
    [(SURELY, PERHAPS, 1), (PERHAPS, SURELY, 2), (SURELY, [-0.02, -0.03, -0.02, -0.03], 2), (PERHAPS, PERHAPS, None)],
)
def test_of_two_candidates_the_better_of_the_sure_ones_is_kept(
    factors: list[float], retuned: list[float], kept: int | None
) -> None:
    """A larger mean without a sure interval does not count."""
    found = three(factors, retuned)
    assert found.kept == kept and found.numbers["judged"] == found.labels[found.shown]
    assert kept is None or found.shown == kept


def test_two_candidates_need_wider_intervals() -> None:
    """97.5 % each: what one would pass at 95 % is not kept."""
    change = np.array([-0.0269, -0.0051, -0.016, -0.016])
    assert verdict_of(change).kept == 1 and three(list(change), [0.0] * 4).kept is None
    half = three(SURELY, SURELY).difference(1).half
    spread = np.std(SURELY, ddof=1) / 2.0
    assert half == pytest.approx(spread * student.ppf(1.0 - 0.0125, 3))
