"""eval/benchmark.py: its statistics by hand, and the command on a case of seconds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from eval import benchmark
from eval.experiments import verdicts
from eval.experiments.benchmark_tables import PAPERS, bars, by_load, verdict
from eval.experiments.verdicts import Stratum, estimate, fewer, improvement, iqm, profile, reductions
from eval.intervals import Interval, interval


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals need not be good here."""
    monkeypatch.setattr(verdicts, "RESAMPLES", 50)


def stratum(load: float, own: list[float], **rivals: list[float]) -> Stratum:
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
    assert fewer(pairs) == pytest.approx(0.5)  # 1 - 0.1 / 0.2 and 1 - 0.2 / 0.4
    assert improvement(pairs) == pytest.approx((1.0 + 3 / 4) / 2)  # of the second, 0.3 against 0.2 is lost
    assert improvement([(np.array([0.1]), np.array([0.1]))]) == 0.5
    worse = reductions([stratum(1.0, [0.4, 0.4], a=[0.2, 0.2])], None)
    assert fewer(worse) == pytest.approx(-1.0)


def test_the_bootstrap_covers_and_repeats() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.uniform(0.05, 0.15, 20), rng.uniform(0.15, 0.25, 20)) for _ in range(6)]
    first, again = (estimate(pairs, fewer, np.random.default_rng(1), 300) for _ in range(2))
    assert first == again
    assert first.low < first.value < first.high and 0.35 < first.low and first.high < 0.65
    exact = estimate([(np.array([0.1, 0.1]), np.array([0.2, 0.2]))], fewer, np.random.default_rng(1), 50)
    assert exact.low == exact.high == pytest.approx(0.5)
    assert np.isnan(estimate([], fewer, rng).value)


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
    same = dict.fromkeys(("goodput", "p99", "longest_wait", "jain", "worst_bin"), one)
    about = {"case": "case", "load": load, "rate": 1.0}
    return [{**about, "policy": p, "parameters": p, "misses": np.array(m), **same} for p, m in misses.items()]


def test_the_bars_count_only_loads_that_tell_something() -> None:
    papers = dict(zip(PAPERS, ([0.2, 0.2], [0.3, 0.3], [0.4, 0.4]), strict=True))
    calm = dict.fromkeys(PAPERS, [0.001, 0.001])
    rows = rows_of({"ppo": [0.05, 0.05], **papers, "other": [0.1, 0.1]}, 1.0)
    rows += rows_of({"ppo": [0.01, 0.0101], **calm, "other": [0.001, 0.001]}, 0.5)
    strata = [
        Stratum("case", load, misses["ppo"], {k: v for k, v in misses.items() if k != "ppo"})
        for load in (1.0, 0.5)
        for misses in [{row["policy"]: row["misses"] for row in rows if row["load"] == load}]
    ]
    table = by_load(strata, rows, "ppo")
    assert [row["verdict"] for row in table.rows] == ["win", "LOSS"]
    three, every = bars(strata, [0.0, -0.02], np.random.default_rng(0)).rows
    assert (three["strata"], three["fewer"], three["met"], three["worse"]) == (1, pytest.approx(0.75), "yes", 1)
    assert (every["strata"], every["fewer"], every["met"], every["of"]) == (1, pytest.approx(0.5), "yes", 2)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--cases", "1 server", "--loads", "1.2", "--requests", "120", "--seeds", "2", "--rivals", "longest-queue"]
    assert benchmark.main([*words, "--out", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert "The bars" in first and "1 server" in first
    rows = list(csv.DictReader((tmp_path / "policies.csv").open()))
    assert [row["parameters"].split(":")[0] for row in rows] == [
        "ppo",
        "static",
        "dynamic",
        "multibin",
        "longest-queue",
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["tables"]["by_load"][0]["load"] == 1.2 and summary["cases"][0]["unit_rate"] > 0
    kept = (tmp_path / "cells.jsonl").read_bytes()
    assert benchmark.main([*words, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "cells.jsonl").read_bytes() == kept and capsys.readouterr().out == first


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        benchmark.main(["--cases", "5 servers"])
    assert caught.value.code == 2 and "is not known. Choose from 4 servers; 1 server" in capsys.readouterr().err
