"""eval/real_figures.py: the table and the figures of runs that were kept, over numbers of requests."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval import real_figures
from llmsched.eval.figures.serving import served_drawings
from llmsched.eval.figures.style import draw_all
from llmsched.eval.reality.serving.client import Served, as_row
from llmsched.eval.reality.serving.kept import Run, read_runs, served_runs
from llmsched.eval.runs.line_store import LineStore
from tests.faults.tools import run

COUNTS = (25, 50)
FIGURES = {
    *(f"{what}_{how}" for what in ("ttft", "throughput", "latency") for how in ("bars", "lines")),
    *("latency_boxes", "latency_percentiles", "latency_histograms"),
}
"""The seven of the published benchmark, the histograms, and latency over numbers of requests."""


def rows_of(count: int, slow: float, failed: int = 1) -> list[Served]:
    """Answers a second apart that take ``slow`` s, the first ``failed`` of them none."""
    found = [Served(float(due), due, due + slow / 2, due + slow, 3, [slow / 4] * 2) for due in range(count)]
    return [Served(row.due, row.due, error="timeout") for row in found[:failed]] + found[failed:]


def keep(folder: Path, rate: float = 4.0, policies: tuple[str, ...] = ("naive", "iterative"), facts: str = "") -> Path:
    """A folder with two repeats of two policies at two numbers of requests."""
    store = LineStore(folder / "real.jsonl")
    for count in COUNTS:
        for repeat in range(2):
            for place, policy in enumerate(policies):
                rows = rows_of(count, 1.0 + place + repeat)
                about = {"scenario": {"workload": "w", "rate": rate, "requests": count}, "facts": {"model": facts}}
                store.put(
                    f"{facts}{rate}{count}{repeat}{policy}",
                    {"policy": policy, "repeat": repeat, **about, "rows": as_row(rows)},
                )
    return folder


def command(*words: Any) -> Any:
    """What the command says."""
    return run(*words, main=real_figures.main)


def test_the_figures_of_kept_runs(tmp_path: Path) -> None:
    """All of them, and a table with the same numbers."""
    pytest.importorskip("matplotlib")
    found = command(keep(tmp_path / "real"), "--out", tmp_path / "shown")
    assert found.code == 0 and "8 runs of w at 4 requests/s" in found.out, found.err
    assert {file.stem for file in (tmp_path / "shown/figures").iterdir()} == FIGURES
    with (tmp_path / "shown/served.csv").open() as file:
        table = {(row["policy"], int(row["requests"])): row for row in csv.DictReader(file)}
    assert set(table) == {(policy, count) for policy in ("naive", "iterative") for count in COUNTS}
    row = table["iterative", 50]
    assert float(row["mean_e2e_s"]) == pytest.approx(2.5) and float(row["mean_ttft_s"]) == pytest.approx(1.25)
    assert float(row["failed"]) == pytest.approx(1 / 50) and row["repeats"] == "2"
    assert float(row["throughput"]) == pytest.approx((49 / 51 + 49 / 52) / 2)


def heights_of(figure: Any) -> list[float]:
    """The heights of the bars in the first axes of a figure."""
    return [bar.get_height() for bar in figure.axes[0].patches]


def test_bars_and_lines_have_the_values() -> None:
    """Heights of bars, points of lines, and no line where there is one number of requests."""
    pytest.importorskip("matplotlib")
    runs = [Run("a", repeat, rows_of(count, 2.0 + repeat), "") for count in COUNTS for repeat in range(2)]
    runs.append(Run("b", 0, rows_of(25, 4.0, failed=25), ""))  # nothing was answered
    shown = served_runs("t", runs)
    figures = draw_all(served_drawings(shown))
    assert set(figures) == FIGURES
    heights = heights_of(figures["latency_bars"])
    assert heights == pytest.approx([2.5, 2.5, 0.0])
    assert shown.of("b") == [25] and len(shown.latencies["a", 50]) == 98
    (line, _) = figures["ttft_lines"].axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [25, 50] and np.asarray(line.get_ydata()).tolist() == pytest.approx(
        [1.25, 1.25]
    )
    assert sum(heights_of(figures["latency_histograms"])) == 98
    one = draw_all(served_drawings(served_runs("t", runs[:2])))
    assert set(one) == {name for name in FIGURES if not name.endswith("_lines")}


def test_nothing_was_answered() -> None:
    """Figures without a value are drawn all the same."""
    pytest.importorskip("matplotlib")
    shown = served_runs("t", [Run("a", 0, rows_of(5, 1.0, failed=5), "")])
    assert "latency_histograms" in draw_all(served_drawings(shown))
    assert np.isnan(shown.metrics["a", 5]["mean_e2e_s"].mean)


def test_a_damaged_line_loses_itself(tmp_path: Path) -> None:
    """The other runs are shown."""
    file = keep(tmp_path) / "real.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0][:-9] + "\n", *lines[1:]]))
    assert len(read_runs([tmp_path])) == 7
    other = json.dumps({"key": "x"})
    file.write_text(other + "\n")
    with pytest.raises(ValueError, match="no run is kept there"):
        read_runs([tmp_path])


def test_refusals(tmp_path: Path) -> None:
    """One line each."""
    one = keep(tmp_path / "one")
    command(tmp_path, "--out", tmp_path / "x").refused("there is no real.jsonl")
    command(one, "--out", one).refused("is a folder that is read")
    command(one).refused("--out")
    command(one, keep(tmp_path / "two", rate=8.0), "--out", tmp_path / "x").refused("2 workloads or rates")
    command(one, keep(tmp_path / "three", facts="other"), "--out", tmp_path / "x").refused("was run twice")
