"""eval/benchmark.py: its statistics and tables by hand; its runs are in test_benchmark_runs.py."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched.eval.experiments.benchmark import statistics
from llmsched.eval.experiments.benchmark.capacity import CaseCapacity, capacity_table
from llmsched.eval.experiments.benchmark.statistics import (
    BETTER_RUNS,
    MISSES_SAVED,
    Pair,
    Stratum,
    estimate,
    iqm,
    profile,
    reductions,
)
from llmsched.eval.experiments.benchmark.tables import PAPERS, bars, by_load, by_network, strata_of, verdict
from llmsched.eval.runs.intervals import Interval, interval


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals need not be good here."""
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


def stratum(load: float, own, **rivals: list[float]) -> Stratum:
    """A stratum of one case."""
    return Stratum("case", load, np.array(own), {name: np.array(misses) for name, misses in rivals.items()})


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    assert iqm(np.array([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0])) == pytest.approx(3.5)


def test_the_best_rival_is_chosen_in_hindsight() -> None:
    found = stratum(1.0, [0.1, 0.1], a=[0.3, 0.3], b=[0.1, 0.4], c=[0.0, 0.7])
    assert found.best() == "b" and found.best(["a", "c"]) == "a"


def test_fewer_misses_and_probability_of_improvement_by_hand() -> None:
    strata = [stratum(1.0, [0.1, 0.1], a=[0.2, 0.2]), stratum(1.2, [0.3, 0.1], a=[0.2, 0.6])]
    pairs = reductions(strata, None)
    assert MISSES_SAVED(pairs) == pytest.approx(0.5)  # 1 - 0.1 / 0.2 and 1 - 0.2 / 0.4
    assert BETTER_RUNS(pairs) == pytest.approx((1.0 + 3 / 4) / 2)  # of the second, 0.3 against 0.2 is lost
    assert BETTER_RUNS([(np.array([0.1]), np.array([0.1]))]) == 0.5
    worse = reductions([stratum(1.0, [0.4, 0.4], a=[0.2, 0.2])], None)
    assert MISSES_SAVED(worse) == pytest.approx(-1.0)


def test_the_bootstrap_covers_and_repeats() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.uniform(0.05, 0.15, 20), rng.uniform(0.15, 0.25, 20)) for _ in range(6)]
    first, again = (estimate(pairs, MISSES_SAVED, np.random.default_rng(1), 300) for _ in range(2))
    assert first == again
    assert first.low < first.value < first.high and 0.35 < first.low and first.high < 0.65
    exact = estimate([(np.array([0.1, 0.1]), np.array([0.2, 0.2]))], MISSES_SAVED, np.random.default_rng(1), 50)
    assert exact.low == exact.high == pytest.approx(0.5)
    assert np.isnan(estimate([], MISSES_SAVED, rng).value)


def plain_estimate(pairs: list[Pair], statistic, rng: np.random.Generator, resamples: int) -> tuple[float, float]:
    """The interval by resampling rows one after the other."""
    found = []
    for _ in range(resamples):
        drawn = []
        for own, other in pairs:
            rows = rng.integers(len(other), size=len(other))
            drawn.append((own[rows], other[rows]))
        found.append(statistic(drawn))
    low, high = np.quantile(found, [0.025, 0.975])
    return low, high


@pytest.mark.parametrize("statistic", [MISSES_SAVED, BETTER_RUNS])
def test_one_network_is_resampled_as_the_plain_loop_does(statistic) -> None:
    rng = np.random.default_rng(3)
    pairs = [(rng.uniform(0.0, 0.3, 7).round(1), rng.uniform(0.1, 0.3, 7).round(1)) for _ in range(5)]
    found = estimate(pairs, statistic, np.random.default_rng(4), 80)
    assert (found.low, found.high) == pytest.approx(plain_estimate(pairs, statistic, np.random.default_rng(4), 80))
    assert found.value == pytest.approx(statistic(pairs))


def test_several_networks_by_hand() -> None:
    own = np.array([[0.1, 0.1], [0.3, 0.1]])  # networks, seeds
    found = stratum(1.0, own, a=[0.2, 0.4])
    assert found.mean == pytest.approx([0.2, 0.1]) and found.difference() == pytest.approx([0.0, -0.3])
    pairs = reductions([found], None)
    assert MISSES_SAVED(pairs) == pytest.approx(0.5)  # 1 - 0.15 / 0.3
    assert BETTER_RUNS(pairs) == pytest.approx((4 + 3) / 8)  # of 8 pairs only 0.3 against 0.2 is lost
    assert profile([own], np.array([0.1])).tolist() == [0.75]


def test_networks_are_resampled_once_for_all_strata() -> None:
    """Networks that save 25 and 75 % everywhere: of two, resamples have 0, 1 or 2 of either, however many strata."""
    one = (np.array([[0.3] * 4, [0.1] * 4]), np.full(4, 0.4))
    for strata in (1, 40):
        found = estimate([one] * strata, MISSES_SAVED, np.random.default_rng(0), 400)
        assert (found.low, found.value, found.high) == pytest.approx((0.25, 0.5, 0.75))


def test_profile_counts_runs() -> None:
    found = profile([np.array([0.0, 0.2]), np.array([0.1, 0.5])], np.array([0.0, 0.1, 0.3, 1.0]))
    assert found.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_losses_are_marked() -> None:
    assert verdict(Interval(0.02, 0.01)) == "LOSS"
    assert verdict(Interval(-0.02, 0.01)) == "win"
    assert verdict(Interval(0.02, 0.03)) == verdict(Interval(0.02, None)) == ""


def rows_of(misses: dict[str, list[float]], load: float) -> list[dict]:
    """Rows as run_case makes them, all else equal."""
    one = interval([1.0, 1.0])
    same = dict.fromkeys(("goodput", "p99", "longest_wait", "refused", "jain", "worst_bin"), one)
    about = {"case": "case", "load": load, "rate": 1.0}
    return [{**about, "policy": p, "parameters": p, "misses": np.array(m), **same} for p, m in misses.items()]


def test_the_bars_count_only_loads_that_tell_something() -> None:
    papers = dict(zip(PAPERS, ([0.2, 0.2], [0.3, 0.3], [0.4, 0.4]), strict=True))
    calm = dict.fromkeys(PAPERS, [0.001, 0.001])
    rows = rows_of({"network": [0.05, 0.05], **papers, "other": [0.1, 0.1]}, 1.0)
    rows += rows_of({"network": [0.01, 0.0101], **calm, "other": [0.001, 0.001]}, 0.5)
    strata = [
        Stratum("case", load, misses["network"], {k: v for k, v in misses.items() if k != "network"})
        for load in (1.0, 0.5)
        for misses in [{row["policy"]: row["misses"] for row in rows if row["load"] == load}]
    ]
    table = by_load(strata, rows, "network")
    assert [row["verdict"] for row in table.rows] == ["win", "LOSS"]
    three, every = bars(strata, [0.0, -0.02], np.random.default_rng(0)).rows
    assert (three["strata"], three["fewer"], three["met"], three["worse"]) == (1, pytest.approx(0.75), "yes", 1)
    assert (every["strata"], every["fewer"], every["met"], every["of"]) == (1, pytest.approx(0.5), "yes", 2)


def test_a_reported_policy_is_no_part_of_the_bars() -> None:
    """It would be the best of all, and the challenger's only conqueror."""
    papers = dict(zip(PAPERS, ([0.2, 0.2], [0.3, 0.3], [0.4, 0.4]), strict=True))
    strata = strata_of(
        rows_of({"network": [0.05, 0.051], **papers, "ablation": [0.04, 0.04]}, 1.0), "network", ["ablation"]
    )
    assert strata[0].best() == PAPERS[0] and set(strata[0].rivals) == set(PAPERS)
    three, every, also = bars(strata, [0.0], np.random.default_rng(0)).rows
    assert three["fewer"] == every["fewer"] == pytest.approx(1 - 0.0505 / 0.2) and every["worse"] == 0
    assert (also["rival"], also["bar"], also["met"]) == ("ablation (reported only)", None, None)
    assert also["fewer"] == pytest.approx(1 - 0.0505 / 0.04) and also["worse"] == 1


def test_every_network_has_a_row_of_its_own() -> None:
    rows = rows_of({"network": [0.15, 0.15], **dict.fromkeys(PAPERS, [0.4, 0.4]), "other": [0.2, 0.2]}, 1.0)
    rows[0]["networks"] = np.array([[0.1, 0.1], [0.2, 0.2]])
    strata = strata_of(rows, "network")
    good, bad = by_network(strata, ["a", "b"], np.random.default_rng(0)).rows
    assert (good["papers"], good["all"], good["missed"]) == pytest.approx((0.75, 0.5, 0.1))
    assert (bad["papers"], bad["all"], bad["missed"]) == pytest.approx((0.5, 0.0, 0.2))
    assert good["all_low"] == good["all_high"] == pytest.approx(0.5)  # the seeds agree
    every = bars(strata, [0.0], np.random.default_rng(0)).rows[1]
    assert every["fewer"] == pytest.approx(0.25) and every["low"] == pytest.approx(0.0)  # the bars hold the networks


def test_the_capacity_table_by_hand() -> None:
    papers = dict(zip(PAPERS, np.array([[1.0, 1.0], [2.0, 4.0], [1.0, 1.5]]), strict=True))
    own = np.array([[1.0, 6.0], [5.0, 6.0]])  # ratios 0.5 and 1.5, 2.5 and 1.5
    table = capacity_table(
        [CaseCapacity("case", own, papers, {name: f"{name}!" for name in papers})], "network", np.random.default_rng(0)
    )
    (row,) = table.rows
    own_capacity, ratio = row["own"], row["ratio"]
    assert isinstance(own_capacity, Interval) and isinstance(ratio, Interval)
    assert row["best"] == f"{PAPERS[1]}!" and own_capacity.mean == pytest.approx(4.5)
    assert (ratio.mean, ratio.half) == pytest.approx((1.5, 0.0))  # paired by seed
    assert (row["least"], row["most"]) == pytest.approx((1.0, 2.0))
    assert "+50.0 % (95 % interval -50.0 to +150.0 %" in table.note
    none = CaseCapacity("case", own, {name: np.zeros(2) for name in PAPERS}, dict.fromkeys(PAPERS, ""))
    (row,) = capacity_table([none], "network", np.random.default_rng(0)).rows
    assert isinstance(row["ratio"], Interval) and np.isnan(row["ratio"].mean)
