"""The table of policies: a row per policy, means with 95 % intervals, the best marked, differences from the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmsched.eval.report.tables import Column, Table, text
from llmsched.eval.report.text import WIDTH, align, column_widths, rule
from llmsched.eval.runs.aggregate import difference
from llmsched.eval.runs.intervals import Interval
from llmsched.policies.registry import CLAIRVOYANT
from llmsched.policies.selection import LONGEST_LABEL

NAME_WIDTH = LONGEST_LABEL
"""Longer names of policies are shortened in the table and spelled out below it."""

COLUMNS = (
    Column("slo_attainment", "SLO met", "%", 1, 100.0, best=1),
    Column("mean_e2el_ms", "E2E mean", "s", 2, 1e-3, best=-1),
    Column("p95_e2el_ms", "E2E p95", "s", 2, 1e-3, best=-1),
    Column("p95_ttft_ms", "TTFT p95", "s", 2, 1e-3, best=-1),
    Column("mean_tpot_ms", "TPOT mean", "ms", 2, best=-1),
    Column("request_goodput", "goodput", "req/s", 2, best=1),
    Column("mean_batch_size", "batch", "mean", 2),
)
"""In order of importance: the last ones are dropped where the width does not suffice."""

CACHE_COLUMN = Column("prefix_cache_hit_rate", "cache hits", "%", 1, 100.0)
"""After the first, where there is a prefix cache."""

LOSSES = (
    Column("refused_share", "refused", "%", 1, 100.0, best=-1),
    Column("abandoned_share", "gave up", "%", 1, 100.0, best=-1),
)
"""After the first, where any policy has some."""


def columns_of(summaries: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns of a table."""
    cached = [CACHE_COLUMN] * (CACHE_COLUMN.key in summaries[0])
    lost = [column for column in LOSSES if any(summary.get(column.key) for summary in summaries)]
    return [COLUMNS[0], *cached, *lost, *COLUMNS[1:]]


def policy_text(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The policy summaries for a terminal, at most WIDTH wide; decimals follow the size of the means."""
    names = _short_names([summary["policy"] for summary in summaries])
    columns = columns_of(summaries)
    lines = _lines(names, summaries, columns)
    while max(len(line) for line in lines) > WIDTH and len(columns) > 1:
        columns.pop()
        lines = _lines(names, summaries, columns)
    long = [f"{short} = {s['policy']}" for short, s in zip(names, summaries, strict=True) if short != s["policy"]]
    classes = class_table(summaries)
    return "\n".join(lines + long + ([] if classes is None else ["", text(classes)]))


def policy_tables(summaries: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The policy summaries as tables, and their differences from the first policy, for the report."""
    columns = columns_of(summaries)
    columns = [replace(column, digits=_digits(_means(column, summaries))) for column in columns]
    own = [{"policy": s["policy"]} | {c.key: Interval(s[c.key], s["ci95"][c.key]) for c in columns} for s in summaries]
    gaps = [{"policy": s["policy"]} | {c.key: difference(s, c.key) for c in columns} for s in summaries if s["paired"]]
    name = Column("policy", "policy")
    classes = class_table(summaries)
    found = [Table("policies", "Policies on the same arrivals and servers", [name, *columns], own)]
    if gaps:
        signed = [name, *(replace(column, signed=True, best=0) for column in columns)]
        found.append(Table("differences", f"Difference from {summaries[0]['policy']}, paired by seed", signed, gaps))
    if classes is not None:
        found.append(classes)
    return found


PRICE = (
    Column("slo_attainment", "SLO met", "%", 1, 100.0, best=1),
    Column("p99_ttft_ms", "TTFT p99", "s", 2, 1e-3, best=-1),
    Column("p99_tpot_ms", "TPOT p99", "ms", 1, best=-1),
    Column("p99_e2el_ms", "E2E p99", "s", 2, 1e-3, best=-1),
    Column("longest_wait_ms", "longest wait", "s", 1, 1e-3, best=-1),
    Column("rejected", "rejected", "", 0),
    Column("dropped", "dropped", "", 0),
    Column("unfinished", "unfinished", "", 0),
    Column("preemptions", "preemptions", "", 0),
    Column("gpu_hours", "GPU-hours", "a run", 2),
)
"""What a policy that serves more requests in time may take from the others."""


def price_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """Beside what each policy wins, what its slowest requests pay: counts are over all seeds."""
    rows = []
    for summary in summaries:
        half = summary["ci95"]
        own = {c.key: Interval(summary[c.key], half[c.key]) if c.key in half else summary.get(c.key) for c in PRICE}
        lost = summary["submitted"] - summary["completed"]
        rows.append({"policy": summary["policy"]} | own | {"lost": lost})
    note = (
        "Longest wait: from arrival to the first dispatch. Not served: arrived and not completed, for whatever reason. "
        "Counts are sums over the seeds."
    )
    title = "Who pays: the slowest requests and those not served"
    return Table("price", title, [Column("policy", "policy"), *PRICE], rows, note)


CLASS_COLUMNS = (
    Column("policy", "policy"),
    Column("class", "SLO class"),
    Column("submitted", "requests", "", 0),
    Column("slo_attainment", "SLO met", "%", 1, 100.0),
    Column("p99_ttft_ms", "TTFT p99", "s", 2, 1e-3),
    Column("p99_tpot_ms", "TPOT p99", "ms", 1),
    Column("p99_e2el_ms", "E2E p99", "s", 2, 1e-3),
)


def class_table(summaries: Sequence[Mapping[str, Any]]) -> Table | None:
    """What every SLO class got under every policy; None where there is one class."""
    if not summaries or len(summaries[0]["per_class"]) < 2:
        return None
    rows = [
        {"policy": summary["policy"], "class": entry["class"], "submitted": entry["submitted"]}
        | {c.key: Interval(entry[c.key], entry["ci95"][c.key]) for c in CLASS_COLUMNS[3:]}
        for summary in summaries
        for entry in summary["per_class"]
    ]
    return Table("classes", "By SLO class", list(CLASS_COLUMNS), rows)


def _lines(names: Sequence[str], summaries: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    rows = [["policy", *(column.title for column in columns)], ["", *(column.unit for column in columns)]]
    cells = [_cells(column, summaries) for column in columns]
    rows += [[name, *(own[row] for own, _ in cells)] for row, name in enumerate(names)]
    gaps = [[name, *(other[row] for _, other in cells)] for row, name in enumerate(names) if row]
    widths, left = column_widths(rows + gaps), [True, *[False] * len(columns)]
    head, *body = [[align(row, widths, left) for row in part] for part in (rows[:2], rows[2:], gaps)]
    lines = [*head, rule(widths), *body[0]]
    if gaps:
        lines += ["", f"difference from {names[0]}, paired by seed", rule(widths), *body[1]]
    return lines


def _cells(column: Column, summaries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The cells of a column: means (best marked ``*``) and differences (in brackets where 0 is inside)."""
    own = [Interval(s[column.key], s["ci95"][column.key]).times(column.factor) for s in summaries]
    gaps = [difference(s, column.key) for s in summaries]
    digits = _digits(_means(column, summaries))
    best = _best([value.mean for value in own], [s["policy"] for s in summaries], column.best)
    shown = [f"{_plus_minus(value, digits)}{'*' if row in best else ' '}" for row, value in enumerate(own)]
    others = ["" if gap is None else _gap(gap.times(column.factor), digits) for gap in gaps]
    return shown, others


def _best(means: Sequence[float], names: Sequence[str], direction: int) -> set[int]:
    """Rows with the best mean of all policies that are not clairvoyant; none where all are equal, or direction is 0."""
    candidates = [
        row for row, mean in enumerate(means) if math.isfinite(mean) and not names[row].startswith(CLAIRVOYANT)
    ]
    if direction == 0 or len({means[row] for row in candidates}) < 2:
        return set()
    best = max(direction * means[row] for row in candidates)
    return {row for row in candidates if direction * means[row] == best}


def _means(column: Column, summaries: Sequence[Mapping[str, Any]]) -> list[float]:
    """The means of a column as they are shown, in its unit."""
    return [summary[column.key] * column.factor for summary in summaries]


def _digits(means: Sequence[float]) -> int:
    """Decimals for three significant figures in the smaller half of the means; at most 3."""
    sizes = sorted(abs(mean) for mean in means if math.isfinite(mean) and mean != 0)
    if not sizes:
        return 1
    return min(3, max(0, 2 - math.floor(math.log10(sizes[(len(sizes) - 1) // 2]))))


def _plus_minus(value: Interval, digits: int, sign: str = "") -> str:
    if not math.isfinite(value.mean):
        return "-"
    half = "" if value.half is None else f" ± {value.half:.{digits}f}"
    return f"{value.mean:{sign}.{digits}f}{half}"


def _gap(value: Interval, digits: int) -> str:
    text = _plus_minus(value, digits, "+")
    unsure = value.half is not None and not value.excludes_zero
    return f"({text})" if unsure else f"{text} "


def _short_names(names: Sequence[str]) -> list[str]:
    """Names of at most NAME_WIDTH letters; shortened ones get a number."""
    return [n if len(n) <= NAME_WIDTH else f"{n[: NAME_WIDTH - 5]}..#{row + 1}" for row, n in enumerate(names)]
