"""Step 0: the theorem under its own assumptions, by number of bins k and batch B."""

from __future__ import annotations

from llmsched.eval.cli.frame import Session
from llmsched.eval.experiments.theory.runs import FILL, Step, TheoryRun, gain, rates, run_systems, saturated_scenario
from llmsched.eval.experiments.theory.theorem import limit, throughput, whole_tokens
from llmsched.eval.figures.charts import ChartLine, Panel, draw_lines
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.intervals import Interval, interval


def theorem_step(session: Session) -> Step:
    """Step 0: the assumptions of the theorem, over k and B."""
    options = session.options
    pairs = [(batch, bins) for batch in options.batches for bins in options.bin_counts]
    systems = [
        TheoryRun(
            f"multibin-fixed:batch={batch}",
            saturated_scenario("uniform", "ideal", "oracle", bins, max(options.requests, FILL * bins * batch), batch),
            {"part": "theorem", "batch": batch, "bins": bins},
        )
        for batch, bins in pairs
    ]
    found = run_systems(session, systems, "theorem")
    rows = []
    for (batch, bins), runs in zip(pairs, found, strict=True):
        measured, published = interval(rates(runs)), throughput(bins, batch)
        base = pairs.index((batch, 1)) if (batch, 1) in pairs else None
        rows.append(
            {
                "batch": batch,
                "bins": bins,
                "published": published,
                "whole_tokens": whole_tokens(bins, batch),
                "simulated": measured,
                "difference": interval([rate / published - 1.0 for rate in rates(runs)]),
                "gain": None if base is None else gain(runs, found[base]),
                "of_limit": measured.mean / limit(batch),
            }
        )
    table = Table(
        "theorem",
        "The theorem and its simulation: one saturated server, uniform outputs of 1 to 1000 tokens, known exactly",
        [
            Column("batch", "B", digits=0),
            Column("bins", "k", digits=0),
            Column("published", "published", "req/s", 2),
            Column("whole_tokens", "whole tokens", "req/s", 2),
            Column("simulated", "simulated", "req/s", 2),
            Column("difference", "sim. - published", "%", 2, 100.0, signed=True),
            Column("gain", "gain over k = 1", "%", 1, 100.0, signed=True),
            Column("of_limit", "of the limit", "%", 1, 100.0),
        ],
        rows,
        "published: the formula. whole tokens: the same for whole lengths, no approximation. limit: ever more bins.",
    )

    def draw():
        """The figure: throughput by bins, simulated and by the formula."""
        series = []
        for row, batch in enumerate(options.batches):
            own = [r for r in rows if r["batch"] == batch]
            places = [r["bins"] for r in own]
            series.append(ChartLine(f"B = {batch}", places, [r["simulated"].times(1 / limit(batch)) for r in own], row))
            guide = [Interval(throughput(k, batch) / limit(batch), None) for k in places]
            series.append(ChartLine("published formula", places, guide, row, guide=True))
        panel = Panel("", "bins k", "throughput, % of that with ever more bins", series, log_x=True, factor=100.0)
        return draw_lines("The Multi-Bin theorem", table.title, [panel], columns=1, height=4.6)

    return [table], {"theorem": draw}
