"""The atlas: ``python eval/atlas.py --points FILE [--out DIR] [--write FILE] [--page FILE]``

Fits a profile to every measured configuration by simulating the closed loops behind its points, and predicts every
point by a fit without it.  ``--out DIR`` keeps finished fits: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, plain_parser
from llmsched.eval.cli.progress import Progress
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.silicon.document import atlas_text
from llmsched.eval.silicon.fitting import fit
from llmsched.eval.silicon.page import page_text
from llmsched.eval.silicon.points import LEAST_POINTS, Configuration, read_points
from llmsched.eval.silicon.results import FitResult, FitStore, error_row, problem_of
from llmsched_env.files.writing import check_file, write_text

BARS = {"tpot_median": 0.05, "tpot_p90": 0.12, "ttft_median": 0.15}
"""Largest left-out errors over all configurations, GB200 apart."""

APART = "gb200"
WORST = 12
"""Configurations that the table of misses has at most."""

ERRORS = (
    Column("configurations", "configurations", digits=0),
    Column("shipped", "shipped", digits=0),
    Column("points", "points", digits=0),
    Column("tpot_median", "TPOT median", "%", factor=100),
    Column("tpot_p90", "TPOT p90", "%", factor=100),
    Column("ttft_median", "TTFT median", "%", factor=100),
    Column("ttft_p90", "TTFT p90", "%", factor=100),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The points, where fits are kept, and the files to write."""
    add = parser.add_argument
    add("--points", type=Path, required=True, metavar="FILE", help="measured points: silicon_sample.csv")
    add("--only", metavar="PATTERN", help="configurations by name, with * and ?: 'h100/*/vllm/*'")
    add("--out", type=Path, metavar="DIR", help="keep finished fits here; a second start makes only what is missing")
    add("--write", type=Path, metavar="FILE", help="write the atlas that is shipped: data/profiles/atlas/silicon.json")
    add("--page", type=Path, metavar="FILE", help="write the page of results: docs/results/atlas.md")
    add("--json", action="store_true", help="print the summary as JSON and nothing else")


@dataclass(frozen=True, kw_only=True)
class AtlasFindings(Findings):
    """The fits, in the order of their names."""

    results: Sequence[FitResult]
    points: Path

    def write_more(self, options: argparse.Namespace) -> None:
        """The atlas and its page."""
        if options.write:
            write_text(options.write, atlas_text(self.results, self.points))
        if options.page:
            write_text(options.page, page_text(self.tables, self.results, self.notes))


def fit_all(found: Sequence[Configuration], store: FitStore) -> list[FitResult]:
    """A fit of every configuration, those in ``store`` not made again."""
    results = []
    with Progress("fits", len(found), float(sum(len(each.points) for each in found))) as progress:
        for configuration in found:
            result = store.get(configuration)
            stored = result is not None
            if result is None:
                fitted, left_out = fit(problem_of(configuration))
                result = FitResult(configuration, fitted.values, fitted.simulated, left_out)
                store.put(result)
            results.append(result)
            progress.step(configuration.name, float(len(configuration.points)), stored=stored)
    return results


def tables_of(results: Sequence[FitResult]) -> list[Table]:
    """Errors of all, by GPU, by engine, by both; and the configurations with the largest errors."""
    own = [result for result in results if result.configuration.gpu != APART]
    rest = [result for result in results if result.configuration.gpu == APART]
    totals: list[dict[str, Any]] = [
        {"what": name, **error_row(some)} for name, some in (("all", own), (f"{APART}, apart", rest)) if some
    ]
    bars: dict[str, Any] = {"what": "bar", **BARS}
    found = [Table("all", "All configurations", [Column("what", ""), *ERRORS], [*totals, bars])]
    keys: Sequence[tuple[str, str, Callable[[Configuration], str]]] = (
        ("gpu", "By GPU", lambda each: each.gpu),
        ("engine", "By engine", lambda each: each.engine),
        ("gpu_engine", "By GPU and engine", lambda each: f"{each.gpu}, {each.engine}"),
    )
    for name, title, key in keys:
        some = results if name == "gpu" else own
        labels = sorted({key(result.configuration) for result in some})
        rows: list[dict[str, Any]] = [
            {"what": one, **error_row([r for r in some if key(r.configuration) == one])} for one in labels
        ]
        found.append(Table(name, title, [Column("what", ""), *ERRORS], rows))
    return [*found, _misses(results)]


def _misses(results: Sequence[FitResult]) -> Table:
    """Configurations outside the bars by themselves: the largest median error in TPOT first."""
    rows: list[dict[str, Any]] = [{"what": result.configuration.name, **error_row([result])} for result in results]
    outside = [row for row in rows if any(row[name] > bar for name, bar in BARS.items())]
    outside.sort(key=lambda row: -row["tpot_median"])
    title = f"Misses: {len(outside)} of {len(rows)} configurations are outside a bar by themselves; the worst in TPOT"
    return Table("misses", title, [Column("what", ""), *ERRORS[1:]], outside[:WORST])


def verdict(results: Sequence[FitResult]) -> list[str]:
    """A line per bar: kept or missed."""
    own = [result for result in results if result.configuration.gpu != APART]
    row = error_row(own) if own else {}
    words = {"tpot_median": "median error in TPOT", "tpot_p90": "p90 in TPOT", "ttft_median": "median error in TTFT"}
    found = []
    for name, bar in BARS.items() if row else ():
        word = "kept" if row[name] <= bar else "MISSED"
        found.append(f"Bar: {words[name]} {100 * row[name]:.1f} % (at most {100 * bar:g} %): {word}.")
    return found


def find(session: Session) -> Findings:
    """Read, fit, count."""
    options = session.options
    for option, path in (("--write", options.write), ("--page", options.page)):
        if path is not None:
            check_file(path, option)
    found = read_points(options.points)
    if options.only:
        found = [each for each in found if fnmatch(each.name, options.only)]
        if not found:
            raise ValueError(f"--only {options.only!r} fits no configuration: try 'h100/*'.")
    if not found:
        raise ValueError(f"{options.points}: no aggregated configuration in it has {LEAST_POINTS} points or more.")
    results = fit_all(found, FitStore(options.out))
    shipped = [result for result in results if result.shipped]
    total = sum(len(each.points) for each in found)
    median = float(np.median([len(each.points) for each in found]))
    heading = (
        f"atlas, {len(found)} configurations with {total} points (median {median:g} each), each fitted by simulating "
        f"its closed loops; {len(shipped)} shipped. Errors of points that were left out."
    )
    return AtlasFindings(
        heading=heading,
        tables=tables_of(results),
        results=results,
        points=options.points,
        notes=verdict(results),
    )


EXPERIMENT = Experiment(
    "atlas.py",
    "Fit a profile to every measured GPU, model and engine, and say its error.",
    add_options,
    find,
    plain_parser,
)
