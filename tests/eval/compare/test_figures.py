"""Intervals of shares end at 0 and 100 % in figures; the distributions count every completed request once."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.container import ErrorbarContainer

from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.figures.comparison import ComparisonData, draw_latency_cdf, draw_slo_attainment, percent
from llmsched.eval.runs.aggregate import by_policy, policy_summaries
from llmsched.eval.runs.intervals import Interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell, run_cells
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse

WIDE = [Interval(0.97, 0.4), Interval(0.02, 0.3)]


def band_of(*, share: bool = False, bounded: bool = False) -> tuple[float, float]:
    """Lowest and highest point of the band of a line with WIDE intervals, in per cent."""
    lines = [ChartLine("a", [1.0, 2.0], WIDE, 0)]
    panel = Panel("", "x", "y", lines, factor=100.0, share=share, bounded=bounded)
    (axes,) = draw_lines("h", "t", [panel], columns=1).axes
    (band,) = axes.collections
    places = np.vstack([path.vertices for path in band.get_paths()])[:, 1]
    return float(places.min()), float(places.max())


@pytest.mark.parametrize("about", [{"share": True}, {"bounded": True}])
def test_a_band_of_shares_ends_where_shares_end(about: dict[str, bool]) -> None:
    """What is no share keeps all of its interval."""
    assert band_of(**about) == (0.0, 100.0)
    assert band_of() == pytest.approx((-28.0, 137.0))


@pytest.fixture(scope="module")
def data() -> ComparisonData:
    """Two policies over two seeds and two classes, drawn with their targets."""
    with pytest.warns(UserWarning):
        scenario = scenario_of("--requests", "150", "--slo-classes", "chat=0.5,ttft:900", "rest=0.5,e2el:9000")
    cells = [Cell(name, parse(name), scenario, seed) for name in ("static", "multibin") for seed in (0, 1)]
    runs: list[Outcome] = [outcome for _, outcome in run_cells(cells, 1)]
    names = ["static", "multibin"]
    return ComparisonData("t", policy_summaries(runs, names), by_policy(runs, names), 9.0, 0.9, float("inf"), ["a"] * 4)


def test_every_latency_has_its_distribution(data: ComparisonData) -> None:
    """Three panels, a line per policy, up to the share that completed; targets where there are some."""
    figure = draw_latency_cdf(data)
    assert len(figure.axes) == 3
    ends = []
    for axes in figure.axes:
        shares = [np.asarray(line.get_ydata()) for line in axes.lines]
        lines = [values for values in shares if len(values) > 2]
        assert len(lines) == 2 and all(np.all(np.diff(values) >= 0) for values in lines)
        ends.append([float(values[-1]) for values in lines])
        assert len(shares) - len(lines) == (axes is not figure.axes[1])  # the target
    assert ends[0] == ends[2] == [100.0, 100.0] and all(90 < share <= 100 for share in ends[1])


def test_the_counts_are_those_of_the_percentiles(data: ComparisonData) -> None:
    """The median of the counts is that of the summary, to the width of a bin."""
    from llmsched_env.simulation.metrics import PER_REQUEST, histogram_quantile

    for runs in data.runs.values():
        for run in runs:
            for place, name in enumerate(PER_REQUEST):
                assert run.latency_counts[place].sum() <= 150
                median = 1000 * histogram_quantile(run.latency_counts[place], 0.5)
                assert median == pytest.approx(run.summary[f"median_{name}_ms"], rel=0.01)


def test_there_is_a_bar_for_every_class(data: ComparisonData) -> None:
    """Below that of its policy; intervals stay on the axis."""
    figure = draw_slo_attainment(data)
    (axes,) = figure.axes
    names = [tick.get_text().strip() for tick in axes.get_yticklabels()]
    assert names == ["static", "chat", "rest", "multibin", "chat", "rest"]
    bars = [bar for bar in axes.containers if isinstance(bar, ErrorbarContainer)]
    places = [x for bar in bars for lines in bar.lines[2] for segment in lines.get_segments() for x in segment[:, 0]]
    assert len(bars) == 6 and min(places) >= 0 and max(places) <= 100


def test_a_share_of_nothing_is_no_number() -> None:
    """A run that is cut off before the first arrival."""
    assert percent(float("nan"), " ± nan") == "-" and percent(12.34, " ± 0.5") == "12.3 ± 0.5 %"
