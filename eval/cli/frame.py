"""The frame of every experiment: cells in, tables and figures out.

An `Experiment` is a name, its own options and a function ``find(session) -> Findings``.  The frame reads the options,
makes and keeps the runs (runs.cells), prints the tables, and leaves what ``--out``, ``--json``, ``--report`` and
``--timeline`` ask for.  A restart with the same ``--out`` makes only the runs that are missing.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsched.eval.cli.command import guarded
from llmsched.eval.cli.options import parser_for
from llmsched.eval.cli.parser import OneLineParser, refuse
from llmsched.eval.cli.progress import Progress
from llmsched.eval.figures import comparison
from llmsched.eval.report import artefacts, tables
from llmsched.eval.report.chrome_trace import write_timeline
from llmsched.eval.report.page import page
from llmsched.eval.report.textual import folded
from llmsched.eval.runs.cells import FILE, CellStore, Crew
from llmsched.eval.runs.from_options import RATES, SIZES, scenario_from
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.ray_cluster import connected
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Factors = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """What an experiment found: a heading, tables, drawings by name, the scenario and what else belongs into
    summary.json, remarks, and the cells that ``--timeline`` shows."""

    heading: str
    tables: Sequence[tables.Table]
    drawings: Mapping[str, Callable[[], Figure | None]]
    about: Mapping[str, Any]
    notes: Sequence[str] = ()
    timeline: Sequence[Cell] = ()


@dataclass
class Session:
    """An experiment under way: its options, who makes the runs, the tidy rows so far (a run each) and remarks."""

    options: argparse.Namespace
    crew: Crew
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> range:
        """The seeds that are scored."""
        return range(self.options.seed, self.options.seed + self.options.seeds)

    def runs(self, cells: Sequence[Cell], label: str, factors: Sequence[Factors] = ()) -> list[Outcome]:
        """Outcomes of ``cells`` in their order; ``factors``, one per cell, go before its metrics in results.csv."""
        found: list[Outcome | None] = [None] * len(cells)
        work = [float(cell.scenario.workload.requests or 20_000) for cell in cells]
        with Progress(label, len(cells), sum(work)) as progress:
            for done in self.crew.made(cells):
                found[done.place] = done.outcome
                progress.step(f"{done.outcome.policy}, seed {done.outcome.seed}", work[done.place], kept=done.kept)
        outcomes = [outcome for outcome in found if outcome is not None]
        for place, outcome in enumerate(outcomes):
            own = dict(factors[place]) if factors else {}
            self.rows.append({**own, **artefacts.result_row(outcome)})
        return outcomes


@dataclass(frozen=True)
class Experiment:
    """A command: its ``program`` name, what it is ``about``, its own options and what it does.

    ``parser``: makes the parser with the common options (default: all of them).
    """

    program: str
    about: str
    add_options: Callable[[argparse.ArgumentParser], None]
    find: Callable[[Session], Findings]
    parser: Callable[[str, str], OneLineParser] = parser_for

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run with the arguments ``argv`` (default: the command line); the exit code."""
        return guarded(self.program, self.run, argv)

    def run(self, argv: list[str]) -> int:
        """Read the options, find, print, keep."""
        parser = self.parser(self.program, self.about)
        self.add_options(parser)
        options = parser.read(argv)
        began, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_outputs(options)
                session = Session(options, crew_from(options))
                found = self.find(session)
            except ValueError as error:
                refuse(self.program, str(error))
        session.notes += [*found.notes, *noted(caught)]
        command = ["python", f"eval/{self.program}", *argv]
        about = artefacts.manifest(command, session.seeds, began, time.monotonic() - clock)
        summary = {
            "experiment": self.program.removesuffix(".py"),
            **found.about,
            "seeds": list(session.seeds),
            "tables": {table.name: tables.records(table) for table in found.tables},
            "notes": session.notes,
        }
        show(found, session.notes, summary, as_json=options.json)
        keep(options, found, session, summary, about)
        return 0


def crew_from(options: argparse.Namespace) -> Crew:
    """Who makes the runs that ``options`` ask for, and where they are kept."""
    store = CellStore(Path(options.out) / FILE) if options.out else None
    return Crew(options.jobs, store, connected(options.ray) if options.ray else None)


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse what cannot be written, before the work; ``ValueError`` with a line for the user."""
    if options.out:
        artefacts.prepare(Path(options.out))
    for name in ("report", "timeline"):
        if getattr(options, name):
            artefacts.prepare_file(f"--{name}", Path(getattr(options, name)))


def noted(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """Warnings as remarks, each once."""
    return list(dict.fromkeys(f"Note: {w.message}" for w in caught if w.category is UserWarning))


def scenario_of(*words: str) -> Scenario:
    """The scenario of these options, as on the command line."""
    return scenario_from(parser_for("scenario", "").read(list(words)))


def variant(options: argparse.Namespace, **changes: Any) -> Scenario:
    """The scenario of ``options`` with other values; what excludes a changed one is left out."""
    values = dict(vars(options))
    for group in (RATES, SIZES, ("goodput", "slo_classes")):
        if set(group) & changes.keys():
            values |= dict.fromkeys(group)
    return scenario_from(argparse.Namespace(**(values | changes)))


def show(found: Findings, notes: Sequence[str], summary: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the summary as JSON, or heading, tables and remarks."""
    if as_json:
        print(artefacts.as_json(summary))
        return
    parts = [found.heading, *(tables.text(table) for table in found.tables)]
    parts += ["\n".join(folded(note) for note in notes)] if notes else []
    print("\n\n".join(parts))


def keep(
    options: argparse.Namespace,
    found: Findings,
    session: Session,
    summary: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Leave the files that ``--out``, ``--report`` and ``--timeline`` ask for."""
    if not (options.out or options.report or options.timeline):
        return
    drawn = comparison.drawn(found.drawings) if comparison.available() and (options.out or options.report) else {}
    if options.out:
        folder = Path(options.out)
        artefacts.write_text(folder / "results.csv", tables.csv_text(session.rows))
        for table in found.tables:
            artefacts.write_text(folder / f"{table.name}.csv", tables.csv_text(tables.records(table)))
        artefacts.write_text(folder / "summary.json", artefacts.as_json(summary) + "\n")
        artefacts.write_text(folder / "manifest.json", artefacts.as_json(about) + "\n")
        if drawn:
            comparison.write(drawn, folder / "figures")
    if options.report:
        name = str(summary["experiment"])
        heading = found.heading if found.heading.startswith(name) else f"{name}, {found.heading}"
        artefacts.write_text(Path(options.report), page(heading, found.tables, drawn, session.notes, about))
    if options.timeline:
        write_timeline(found.timeline, Path(options.timeline))
    if (options.out or options.report) and found.drawings and not comparison.available():
        print(comparison.HINT, file=sys.stderr)
