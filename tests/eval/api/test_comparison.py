"""A comparison in Python is what the command `compare` does: the same digits, as pandas, Markdown, LaTeX, figures."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmsched import ComparisonResult, Scenario, compare
from llmsched.eval.compare import main
from llmsched.eval.figures import style
from llmsched.policies import number, parse, policy

SMALL = Scenario(requests=200)
POLICIES = "static:batch=auto,multibin:label=mine"


@pytest.fixture(scope="module")
def result() -> ComparisonResult:
    """A comparison of two policies over two seeds."""
    with pytest.warns(UserWarning, match="leaves its measured range"):
        return compare(POLICIES, SMALL, seeds=2)


def without_times(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary without wall-clock times."""
    for one in summary["policies"]:
        del one["wall_s"]
    return summary


def test_the_digits_are_those_of_the_command(result: ComparisonResult, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole summary, notes and choices included; and the text."""
    words = ["--policies", POLICIES, "--requests", "200", "--seeds", "2"]
    assert main([*words, "--json"]) == 0
    assert without_times(result.summary()) == without_times(json.loads(capsys.readouterr().out))
    assert main(words) == 0
    assert capsys.readouterr().out == f"{result}\n"


def test_runs_are_the_rows_of_results_csv(result: ComparisonResult, tmp_path: Path) -> None:
    """Every metric of every run, undefined ones as NaN."""
    assert main(["--policies", POLICIES, "--requests", "200", "--seeds", "2", "--out", str(tmp_path), "--json"]) == 0
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    found = result.runs()
    assert list(found.columns) == list(rows[0]) and len(found) == len(rows) == 4
    for row, (_, ours) in zip(rows, found.iterrows(), strict=True):
        for key in row.keys() - {"policy", "wall_s"}:
            assert math.isnan(ours[key]) if row[key] == "" else float(row[key]) == ours[key], key
        assert row["policy"] == ours["policy"]


def test_means_and_differences(result: ComparisonResult) -> None:
    """They follow from the runs: means over seeds, and the mean of paired differences."""
    means, runs, gaps = result.means(), result.runs(), result.differences()
    assert list(means.index) == ["static:batch=auto", "mine"] and list(gaps.index) == ["mine"]
    assert means["parameters"]["mine"] == "multibin"
    by_policy = runs.groupby("policy")["mean_e2el_ms"].mean()
    mine, gap = means.loc["mine"], gaps.loc["mine"]
    assert mine["mean_e2el_ms"] == pytest.approx(by_policy["mine"], rel=1e-12)
    assert gap["mean_e2el_ms"] == pytest.approx(by_policy["mine"] - by_policy["static:batch=auto"])
    assert mine["mean_e2el_ms_ci95"] > 0 and mine["submitted"] == 400


def test_one_seed_has_no_interval() -> None:
    """NaN, not a number."""
    with pytest.warns(UserWarning):
        alone = compare("static", SMALL, seeds=1, seed=7)
    assert alone.means()["slo_attainment_ci95"].isna().all() and list(alone.runs()["seed"]) == [7]
    assert alone.differences().empty


def test_markup(result: ComparisonResult) -> None:
    """The tables by name, the numbers of the text in them."""
    assert {"policies", "differences", "price"} <= set(result.tables)
    share = f"{100 * result.means()['slo_attainment']['mine']:.1f}"
    assert share in result.to_markdown() and r"\label{tab:policies}" in result.to_latex() and share in result.to_latex()
    assert "longest wait" in result.to_markdown("price")
    with pytest.raises(ValueError, match="no table 'prices'. Did you mean price?"):
        result.to_markdown("prices")


@pytest.mark.parametrize("engine", ["batch", "continuous"])
def test_functions_and_policies(engine: str) -> None:
    """A plain function, a registered policy with a value, and a parsed one, on either engine."""

    def oldest(record, params, memory, rng):
        """All bins as one queue, four at a time."""
        return record.num_bins, 4

    @policy("of-a-size", params={"size": number(4, 1, 64, whole=True)})
    def of_a_size(record, params, memory, rng):
        """All bins as one queue, so many at a time."""
        return record.num_bins, int(params[0])

    entrants: list[Any] = [oldest, of_a_size, of_a_size.bind({"size": 9.0}, label="nine"), parse("random")]
    with pytest.warns(UserWarning):
        found = compare(entrants, Scenario(requests=150, engine=engine), seeds=1).means()["mean_e2el_ms"]
    assert list(found.index) == ["oldest", "of-a-size", "nine", "random"]
    assert found["oldest"] == found["of-a-size"] != found["nine"]


def test_closures_of_one_place_are_different_policies() -> None:
    """They have one file and one qualified name, and are not taken for one another."""

    def of_size(size: int) -> Any:
        @policy(f"size-{size}")
        def made(record, params, memory, rng):
            """So many at a time."""
            return record.num_bins, size

        return made

    with pytest.warns(UserWarning):
        found = compare([of_size(1), of_size(32)], SMALL, seeds=1).means()["mean_batch_size"]
    assert found["size-1"] == 1.0 and found["size-32"] > 1.0


@pytest.mark.parametrize(
    ("policies", "more", "said"),
    [
        ("static,static", {}, "given 2 times"),
        (["static", "static"], {}, "given 2 times"),
        ([], {}, r"policies=\[\] is not allowed"),
        ([3], {}, "3 is not a policy"),
        ("statc", {}, "Did you mean static"),
        (["static,dynamic"], {}, "static,dynamic"),
        ("static", {"seeds": 0}, "seeds=0 is not allowed"),
        ("static", {"seeds": True}, "seeds=True is not allowed"),
        ("static", {"seed": -1}, "seed=-1 is not allowed"),
        ("static", {"jobs": 0}, "jobs=0 is not allowed"),
        ("fcfs", {}, "engine"),
    ],
)
def test_refusals(policies: Any, more: dict[str, Any], said: str) -> None:
    """One line, before anything runs."""
    with pytest.raises(ValueError, match=said) as caught:
        compare(policies, SMALL, **more)
    assert "\n" not in str(caught.value)


def test_figures(result: ComparisonResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is drawn by its name; an unknown one and a missing matplotlib are said."""
    pytest.importorskip("matplotlib")
    for name in result.figures:
        assert result.plot(name).axes, name
    with pytest.raises(ValueError, match="no figure 'cdf'"):
        result.plot("cdf")
    monkeypatch.setattr(style, "available", lambda: False)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        result.plot()


def test_a_sweep_can_be_put_together(result: ComparisonResult) -> None:
    """DataFrames of several results have the same columns."""
    both = pd.concat({"a": result.means(), "b": result.means()}, names=["case"])
    assert both.index.names == ["case", "policy"] and len(both) == 4 and not both["slo_attainment"].isna().any()
