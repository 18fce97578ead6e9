"""Tables in Markdown, of what commands report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmsched.eval.report.policy_table import COLUMNS, LOSSES
from llmsched.eval.report.tables import Column
from llmsched.eval.runs.intervals import Interval
from llmsched.policies import parse
from llmsched.policies.parameters import show
from llmsched.policies.registry import CLAIRVOYANT
from made.commands import CommandError, Commands
from made.marks import Mark

MORE = (
    Column("p99_e2el_ms", "E2E p99", "s", 1, 1e-3, best=-1),
    Column("median_ttft_ms", "TTFT median", "s", 2, 1e-3, best=-1),
    Column("longest_wait_ms", "longest wait", "s", 0, 1e-3, best=-1),
    Column("preemptions", "preemptions", "", 0),
    Column("rejected", "refused", "", 0),
    Column("dropped", "dropped", "", 0),
    Column("unfinished", "unfinished", "", 0),
)
"""Columns that a page may name besides those that compare prints."""

SCORE = "slo_attainment"
"""What a cell of a table of variants shows, where its mark names nothing else."""


def columns(keys: Sequence[str]) -> list[Column]:
    """The columns with these keys, all times with one decimal; ``CommandError`` for an unknown key."""
    known = {column.key: column for column in (*COLUMNS, *LOSSES, *MORE)}
    if unknown := [key for key in keys if key not in known]:
        raise CommandError(f"unknown column {unknown[0]}; known are {', '.join(known)}")
    return [replace(known[key], digits=1) if known[key].unit == "s" else known[key] for key in keys]


def cell(column: Column, summary: Mapping[str, Any]) -> str:
    """A value with its interval, as compare's table shows it."""
    mean, half = summary[column.key], summary["ci95"].get(column.key)
    return column.show(mean if half is None else Interval(mean, half))


def best(column: Column, shown: Sequence[str], summaries: Sequence[Mapping[str, Any]]) -> set[int]:
    """Places of the best: equal as shown; none where the column has no best end, or all are equal."""
    known = {
        place: float(text.split(" ")[0].replace(",", ""))
        for place, text in enumerate(shown)
        if text[0] in "-0123456789" and text != "-" and not summaries[place]["policy"].startswith(CLAIRVOYANT)
    }
    if column.best == 0 or len(set(known.values())) < 2:
        return set()
    top = max(column.best * value for value in known.values())
    return {place for place, value in known.items() if column.best * value == top}


def bold(shown: Sequence[str], places: set[int]) -> list[str]:
    """The texts, those at ``places`` in bold."""
    return [f"**{text}**" if place in places else text for place, text in enumerate(shown)]


def name(mark: Mark, summary: Mapping[str, Any]) -> str:
    """The name of a policy as the page shows it; with the parameter that was chosen, where the mark wants it."""
    text = (mark.names or {}).get(summary["policy"], f"`{summary['policy']}`")
    return f"{text}{choice(summary)}" if mark.chosen else text


def choice(summary: Mapping[str, Any]) -> str:
    """`` (24)``: the values that were chosen for ``auto``; empty where nothing was."""
    if not summary["chosen"]:
        return ""
    given = dict(part.split("=") for part in summary["policy"].split(":")[1:] if "=" in part)
    taken = parse(summary["parameters"]).values  # the text names no value that is the default
    found = [show(taken[key]) for key, value in given.items() if value == "auto" and key in taken]
    return f" ({', '.join(found)})" if found else ""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in lines) + "\n"


def table(mark: Mark, commands: Commands) -> str:
    """A table of any command, as ``--format markdown`` prints it below its title; some of its columns and rows."""
    parts = commands.output(mark.command, "--format", "markdown").split("\n\n")
    places = [place for place, part in enumerate(parts) if part.startswith(f"**{mark.title}")]
    if len(places) != 1 or not mark.title:
        raise CommandError(f"{len(places)} tables have a title that begins with {mark.title!r}")
    head, _, *rows = [line.strip("|").strip().split(" | ") for line in parts[places[0] + 1].splitlines()]
    where = mark.where or {}
    if unknown := [column for column in (*mark.columns, *where) if column not in head]:
        raise CommandError(f"unknown column {unknown[0]}; known are {', '.join(head)}")
    chosen = [place for place, column in enumerate(head) if not mark.columns or column in mark.columns]
    wanted = [(0, mark.keep or ".*"), *((head.index(column), pattern) for column, pattern in where.items())]
    kept = [row for row in rows if all(re.fullmatch(pattern, row[place]) for place, pattern in wanted)]
    if not kept:
        asked = " and ".join([repr(mark.keep), *(f"{pattern!r} in {column}" for column, pattern in where.items())])
        raise CommandError(f"no row has {asked}; the rows begin with {', '.join(row[0] for row in rows)}")
    return markdown([head[place] for place in chosen], [[row[place] for place in chosen] for row in kept])


def policies(mark: Mark, commands: Commands) -> str:
    """A row per policy; the best of every column in bold."""
    summaries = commands.summary(mark.command)["policies"]
    found = columns(mark.columns or (SCORE, "mean_e2el_ms", "p95_e2el_ms", "p95_ttft_ms"))
    shown = [[cell(column, summary) for summary in summaries] for column in found]
    marked = [bold(texts, best(column, texts, summaries)) for column, texts in zip(found, shown, strict=True)]
    head = ["policy", *(f"{column.title} {column.unit}".strip() for column in found)]
    rows = [[name(mark, summary), *(texts[row] for texts in marked)] for row, summary in enumerate(summaries)]
    return markdown(head, rows)


def variants(mark: Mark, commands: Commands) -> str:
    """A row per variant of the command, a column per policy; the best of every row in bold.

    The mark's ``columns`` name what stands before the policies (``rate``) and, as the last one, what the cells show.
    """
    shown = columns([next((key for key in mark.columns if key != "rate"), SCORE)])[0]
    rates = "rate" in mark.columns
    rows, head = [], []
    for label, options in (mark.rows or {}).items():
        report = commands.summary(f"{mark.command} {options}".strip())
        summaries = report["policies"]
        texts = [cell(shown, summary) for summary in summaries]
        marked = bold(texts, best(shown, texts, summaries))
        if mark.chosen:
            marked = [text + choice(summary) for text, summary in zip(marked, summaries, strict=True)]
        rate = [f"{report['scenario']['rate']:.2f}"] if rates else []
        rows.append([label, *rate, *marked])
        names = [(mark.names or {}).get(s["policy"], f"`{s['policy']}`") for s in summaries]
        head = [mark.title, *(["requests/s"] if rates else []), *names]
    return markdown(head, rows)
