"""The printed table: a row per policy, means with 95 % intervals, the best marked, differences from the first."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmsched.eval.runs.aggregate import difference
from llmsched.eval.runs.describing import IN_HEADING, changes
from llmsched.eval.runs.intervals import Interval
from llmsched.eval.runs.scenario import Scenario

WIDTH = 120
NAME_WIDTH = 34
"""Longer names of policies are shortened in the table and spelled out below it."""

CLAIRVOYANT = "oracle-"


@dataclass(frozen=True)
class Column:
    """A column: its two lines of heading, the key of the summary, the factor to its unit, which end is best
    (+1 high, -1 low, 0 neither)."""

    title: str
    unit: str
    key: str
    factor: float
    best: int


COLUMNS = (
    Column("SLO met", "%", "slo_attainment", 100.0, 1),
    Column("E2E mean", "s", "mean_e2el_ms", 1e-3, -1),
    Column("E2E p95", "s", "p95_e2el_ms", 1e-3, -1),
    Column("TTFT p95", "s", "p95_ttft_ms", 1e-3, -1),
    Column("TPOT mean", "ms", "mean_tpot_ms", 1.0, -1),
    Column("goodput", "req/s", "request_goodput", 1.0, 1),
    Column("batch", "mean", "mean_batch_size", 1.0, 0),
)
"""In order of importance: the last ones go first where the width does not suffice."""


def table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The table of policy summaries, at most WIDTH wide."""
    names = _short_names([summary["policy"] for summary in summaries])
    columns = list(COLUMNS)
    lines = _lines(names, summaries, columns)
    while max(len(line) for line in lines) > WIDTH and len(columns) > 1:
        columns.pop()
        lines = _lines(names, summaries, columns)
    long = [f"{short} = {s['policy']}" for short, s in zip(names, summaries, strict=True) if short != s["policy"]]
    return "\n".join(lines + long)


def _lines(names: Sequence[str], summaries: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    rows = [["policy", *(column.title for column in columns)], ["", *(column.unit for column in columns)]]
    cells = [_column(column, summaries) for column in columns]
    rows += [[name, *(own[row] for own, _ in cells)] for row, name in enumerate(names)]
    gaps = [[f"{name}", *(other[row] for _, other in cells)] for row, name in enumerate(names) if row]
    widths = [max(len(row[place]) for row in rows + gaps) for place in range(len(rows[0]))]
    head, body = rows[:2], rows[2:]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_line(row, widths) for row in head] + [rule] + [_line(row, widths) for row in body]
    if gaps:
        lines += ["", f"difference from {names[0]}, paired by seed", rule] + [_line(row, widths) for row in gaps]
    return lines


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *values = row
    cells = [f"{name:<{widths[0]}}", *(f"{value:>{width}}" for value, width in zip(values, widths[1:], strict=True))]
    return "  ".join(cells).rstrip()


def _column(column: Column, summaries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The cells of a column: means (best marked ``*``) and differences (in brackets where 0 is inside)."""
    own = [_scaled(Interval(s[column.key], s["ci95"][column.key]), column.factor) for s in summaries]
    gaps = [difference(s, column.key) for s in summaries]
    digits = _digits([value.mean for value in own])
    best = _best([value.mean for value in own], [s["policy"] for s in summaries], column.best)
    shown = [f"{_pm(value, digits)}{'*' if row in best else ' '}" for row, value in enumerate(own)]
    others = ["" if gap is None else _gap(_scaled(gap, column.factor), digits) for gap in gaps]
    return shown, others


def _best(means: Sequence[float], names: Sequence[str], direction: int) -> set[int]:
    """Rows of the best mean among the policies that play fair; none where all are equal, or direction is 0."""
    fair = [row for row, mean in enumerate(means) if math.isfinite(mean) and not names[row].startswith(CLAIRVOYANT)]
    if direction == 0 or len({means[row] for row in fair}) < 2:
        return set()
    best = max(direction * means[row] for row in fair)
    return {row for row in fair if direction * means[row] == best}


def _scaled(value: Interval, factor: float) -> Interval:
    return Interval(value.mean * factor, None if value.half is None else value.half * factor)


def _digits(means: Sequence[float]) -> int:
    """Decimals that show the smaller half of the means to three figures, at most 3."""
    sizes = sorted(abs(mean) for mean in means if math.isfinite(mean) and mean != 0)
    if not sizes:
        return 1
    return min(3, max(0, 2 - math.floor(math.log10(sizes[(len(sizes) - 1) // 2]))))


def _pm(value: Interval, digits: int, sign: str = "") -> str:
    if not math.isfinite(value.mean):
        return "-"
    half = "" if value.half is None else f" ± {value.half:.{digits}f}"
    return f"{value.mean:{sign}.{digits}f}{half}"


def _gap(value: Interval, digits: int) -> str:
    text = _pm(value, digits, "+")
    unsure = value.half is not None and not value.excludes_zero
    return f"({text})" if unsure else f"{text} "


def _short_names(names: Sequence[str]) -> list[str]:
    """Names of at most NAME_WIDTH, numbered where shortened."""
    return [n if len(n) <= NAME_WIDTH else f"{n[: NAME_WIDTH - 5]}..#{row + 1}" for row, n in enumerate(names)]


def heading(scenario: Scenario, seeds: Sequence[int]) -> str:
    """What was simulated, above the table."""
    many = f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})" if len(seeds) > 1 else f"1 seed ({seeds[0]})"
    bins = len(scenario.config.queueing.edges) + 1
    names = " ".join(scenario.bin_names[:bins])
    overdue = " and an overdue queue" * (len(scenario.bin_names) > bins)
    lines = [
        f"{scenario.name}: {scenario.arrivals}, {scenario.size} x {many}",
        f"servers: {scenario.hardware}",
        f"SLO: {scenario.goal}; predictions {scenario.workload.predictor}; "
        f"{bins} bin{'s' * (bins > 1)} {names}{overdue}; {_service(scenario)}",
    ]
    others = changes(scenario, besides=IN_HEADING)
    lines += [f"not the default: {'; '.join(others)}"] if others else []
    return "\n".join(folded(line) for line in lines)


def _service(scenario: Scenario) -> str:
    """How many are served together and when they are released; in iterations no request waits for the others."""
    config = scenario.config
    if config.engine == "continuous":
        return f"running sets to {config.max_batch}, released at their own last token"
    end = "the end of the batch" if config.release == "batch" else "their own last token"
    return f"batches to {config.max_batch}, released at {end}"


def footnotes(summaries: Sequence[Mapping[str, Any]], seeds: int) -> list[str]:
    """What the table means, and what it does not show."""
    notes = [
        "* best of its column. SLO met is of ALL arrivals: rejected, dropped and unfinished requests are misses.",
        "  Latencies are of completed requests; E2E = release - arrival, with the wait (docs/reference/metrics.md).",
    ]
    if seeds > 1:
        notes.append(
            "± 95 % interval (Student t over seeds; same arrivals for every policy). (Brackets): it contains 0."
        )
    else:
        notes.append("One seed: no interval. Nothing here says how much chance there is in it; give --seeds 5.")
    if any(summary["policy"].startswith(CLAIRVOYANT) for summary in summaries):
        notes.append(
            f"{CLAIRVOYANT}...: clairvoyant (it sees true output lengths, which no scheduler can); never marked best."
        )
    return notes + [text for summary in summaries if (text := _lost(summary))]


def _lost(summary: Mapping[str, Any]) -> str:
    """What became of the requests of a policy that did not complete, and of those that were evicted."""
    names = ("rejected", "dropped", "unfinished")
    parts = [f"{summary[name]:,} {name}" for name in names if summary[name]]
    if summary["preemptions"]:
        parts.append(f"{summary['preemptions']:,} evictions")
    return f"{summary['policy']}: {', '.join(parts)} (of {summary['submitted']:,} requests)" if parts else ""


def folded(text: str) -> str:
    """``text`` in lines of at most WIDTH, continuation indented."""
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
