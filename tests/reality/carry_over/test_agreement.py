"""Errors, differences, ranks and gains by hand, on a result that is written down."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval import carry_over
from llmsched.eval.figures.carry_over import carry_over_drawings
from llmsched.eval.figures.style import draw_all
from llmsched.eval.reality.carry_over.agreement import Gain, Ranks, difference, gain, ranks, relative_error
from llmsched.eval.reality.carry_over.experiment import shown
from llmsched.eval.reality.carry_over.plan import BARS, Plan
from llmsched.eval.reality.carry_over.result import METRICS, SCHEMA, write
from llmsched.eval.reality.carry_over.tables import errors_of, tables
from llmsched.eval.runs.intervals import Interval
from tests.reality.carry_over.tools import POLICIES
from tests.reality.steps.tools import SERVER

OWN, SJF, NETWORK = POLICIES
REAL = {OWN: [4.0, 5.0, 6.0], SJF: [2.0, 3.1, 3.9], NETWORK: [3.5, 4.6, 5.4]}
OURS = {OWN: [4.4, 5.5, 6.6], SJF: [2.0, 3.1, 3.9], NETWORK: [4.5, 5.6, 6.71]}


def document() -> dict[str, Any]:
    """Three policies at one load, three repeats; every metric has the same values."""
    runs = []
    for policy in POLICIES:
        for repeat in range(3):
            found = {
                "measured": dict.fromkeys(METRICS, REAL[policy][repeat]),
                "predicted": dict.fromkeys(METRICS, OURS[policy][repeat]),
                "predicted_own": dict.fromkeys(METRICS, REAL[policy][repeat]),
            }
            calm = {"others": 0.01, "stolen": 0.0, "own": 1.2}
            head = {"policy": policy, "load": 0.9, "repeat": repeat, "attempt": 0, "began": "", "disturbance": calm}
            runs.append({**head, **found, "speed": 1.0, "offset_ms": 20.0, "notes": []})
    plan = Plan(POLICIES, (0.9,), 3, slo=(("ttft", 300.0), ("tpot", 40.0))).describe()
    head = {"schema": SCHEMA, "plan": plan, "rule": {"most_share": 0.05, "tries": 3}, "capacity": 10.0}
    machine = {"machine": {"processor": "x"}, "server": SERVER, "discarded": [], "blocks": []}
    return {**head, **machine, "runs": runs}


def test_errors_are_taken_repeat_by_repeat() -> None:
    """Predicted over measured less 1: a constant error has no spread."""
    own = relative_error(document(), OWN, 0.9, "p50_e2e_s")
    assert own.mean == pytest.approx(0.1) and own.spread == pytest.approx(0.0, abs=1e-12)
    other = relative_error(document(), NETWORK, 0.9, "p50_e2e_s")
    ratios = [4.5 / 3.5 - 1, 5.6 / 4.6 - 1, 6.71 / 5.4 - 1]
    assert other.mean == pytest.approx(sum(ratios) / 3) and other.spread > 0.01
    assert not own.within(0.07, 2.0) and own.within(0.1001, 2.0)
    assert other.within(0.0, 20.0)
    assert [e.mean for e in errors_of(document(), 0.9, "p50_e2e_s", "predicted_own")] == [0.0, 0.0, 0.0]


def test_pairs_are_counted_where_both_decide() -> None:
    """own > network when measured, own < network when predicted: reversed.  sjf is below both in both."""
    found = ranks(document(), "mean_e2e_s", [0.9])
    assert found == Ranks(pairs=3, measured=3, predicted=3, both=3, same=2)
    assert found.tau == pytest.approx((2 - 1) / 3)
    assert ranks(document(), "mean_e2e_s", [0.9], "predicted_own").tau == 1.0
    assert math.isnan(Ranks(3, 1, 0, 0, 0).tau)


def test_an_undecided_difference_counts_for_nothing() -> None:
    """Its interval holds 0."""
    found = document()
    for run in found["runs"]:
        if run["policy"] == SJF:
            run["measured"]["mean_e2e_s"] = [9.0, 5.0, 1.0][run["repeat"]]
    assert not difference(found, "measured", SJF, OWN, 0.9, "mean_e2e_s").excludes_zero
    assert ranks(found, "mean_e2e_s", [0.9]) == Ranks(pairs=3, measured=1, predicted=3, both=1, same=0)


def test_a_gain_carries_where_it_is_decided_and_near() -> None:
    """The network gains 0.5 s when measured; predicted is a loss."""
    found = gain(document(), NETWORK, 0.9, "mean_e2e_s")
    assert found.measured.mean == pytest.approx(-0.5) and found.predicted.mean == pytest.approx(0.31 / 3)
    assert not found.carries(BARS)
    assert Gain(Interval(-1.0, 0.2), Interval(-0.7, 0.5)).carries(BARS)
    assert not Gain(Interval(-1.0, 0.2), Interval(-0.6, 0.1)).carries(BARS)
    assert not Gain(Interval(-1.0, 1.2), Interval(-1.0, 0.1)).carries(BARS)


def test_the_tables_say_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Through the command; a bar that is missed is printed."""
    path = tmp_path / "carry_over.json"
    write(path, document())
    assert carry_over.main(["--results", str(path)]) == 0
    printed = capsys.readouterr().out
    for table in tables(document()):
        assert table.title in printed
    assert "3 policies, 3 repeats of 300 requests at loads 0.9 (9.00/s) of a capacity of 10.00 requests/s" in printed
    rows = {str(row["bar"]): row for row in tables(document())[0].rows}
    assert rows["tau of E2E mean at least 0.8 over pairs decided in both"]["met"] == "no"
    assert rows["E2E p50 within 7 % or 2 spreads of the repeats"]["found"] == "1 of 3 (1 within 7 %)"


def test_the_figure_has_a_mark_where_measured_meets_predicted() -> None:
    """One for every policy and load, in the unit of its panel; what was not measured has none."""
    pytest.importorskip("matplotlib")
    found = document()
    for run in found["runs"]:
        if run["policy"] == NETWORK:
            run["measured"]["p95_ttft_s"] = None
    figure = draw_all(carry_over_drawings(shown(found)))["carry_over"]
    share, mean, ttft = figure.axes
    for axes, factor, policies in ((share, 100.0, POLICIES), (mean, 1.0, POLICIES), (ttft, 1.0, POLICIES[:2])):
        marks = [(float(bar[0].get_xdata()[0]), float(bar[0].get_ydata()[0])) for bar in axes.containers]
        expected = [(factor * np.mean(REAL[name]), factor * np.mean(OURS[name])) for name in policies]
        assert np.array(marks) == pytest.approx(np.array(expected))
        assert axes.get_xlim() == axes.get_ylim()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--results", "missing.json"], "--results 'missing.json'"),
        (["--results", "other.json"], "not a result of carry_over.py"),
        (["--out", "x"], "--python is missing"),
        (["--python", "x"], "--out is missing"),
        (["--python", "no-such-python", "--out", "x"], "--python 'no-such-python' cannot be started"),
    ],
)
def test_bad_options_are_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 2."""
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        carry_over.main(words)
    shown = capsys.readouterr().err
    assert stopped.value.code == 2 and told in shown and shown.count("\n") == 1
