"""The frame of every experiment: options in, findings out.

An `Experiment` is a name, its own options and a function ``find(session) -> Findings``.  The frame reads the options,
makes the runs and stores them (runs.cells), prints the findings, and writes what ``--out``, ``--json``, ``--report``
and ``--timeline`` ask for.  A restart with the same ``--out`` makes only the missing runs.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.options import add_run_options, parser_for
from llmsched.eval.cli.progress import Progress, Silence
from llmsched.eval.figures import style
from llmsched.eval.report import artefacts
from llmsched.eval.report.chrome_trace import write_timeline
from llmsched.eval.report.page import page
from llmsched.eval.runs.cells import FILE, CellStore, Crew
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.ray_cluster import connect
from llmsched.eval.runs.runner import Cell
from llmsched.policies import Bound, parse_list
from llmsched.policies.routing import BoundRouting, parse_routings
from llmsched.policies.routing.registry import ASKED
from llmsched.policies.selection import label_notes
from llmsched_env.commands.parser import OneLineParser, refuse
from llmsched_env.commands.process import INTERRUPTED, run_guarded
from llmsched_env.commands.terminal import say, show
from llmsched_env.core.constants import ROUTINGS
from llmsched_env.files.writing import check_file, check_folder, make_folder, write_text

Factors = Mapping[str, Any]
"""What marks a run in results.csv: column and value."""

ABSENT = {
    "out": None,
    "json": False,
    "format": "text",
    "report": None,
    "timeline": None,
    "ray": None,
    "jobs": 1,
    "seed": 0,
    "seeds": 1,
    "price": None,
    "keep_timeline": False,
}
"""Values of the common options in a command that does not have them."""

OWN_FILES = ("results.csv", "summary.json", "manifest.json", FILE, "plans.jsonl")
"""Files that commands write into the folder of ``--out``, besides tables by name and figures."""


@dataclass
class Session:
    """An experiment in progress: its options, the crew that makes the runs, a row per run so far, notes."""

    options: argparse.Namespace
    crew: Crew
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    routings: Sequence[BoundRouting] = ()

    @property
    def seeds(self) -> range:
        """The seeds that are scored."""
        return range(self.options.seed, self.options.seed + self.options.seeds)

    def policies(self, given: str | Sequence[Bound]) -> list[Bound]:
        """The policies of a comma-separated list, or those given, each under every routing of ``--routing``.

        What their labels stand for becomes a note.
        """
        found = parse_list(given) if isinstance(given, str) else list(given)
        self.notes += label_notes(found)
        return [bound.routed(routing) for bound in found for routing in self.routings] if self.routings else found

    def runs(self, cells: Sequence[Cell], label: str, factors: Sequence[Factors] = ()) -> list[Outcome]:
        """Outcomes of ``cells`` in their order; ``factors``, one per cell, stand before its metrics in results.csv."""
        found: list[Outcome | None] = [None] * len(cells)
        with Progress(label, len(cells), sum(cell.work for cell in cells)) as progress:
            for run in self.crew.run_cells(cells, progress.look):
                found[run.place] = run.outcome
                what = f"{run.outcome.policy}, seed {run.outcome.seed}"
                progress.step(what, cells[run.place].work, stored=run.stored)
        outcomes = [outcome for outcome in found if outcome is not None]
        for place, outcome in enumerate(outcomes):
            own = dict(factors[place]) if factors else {}
            self.rows.append({**own, **artefacts.result_row(outcome)})
        return outcomes


@dataclass(frozen=True)
class Experiment:
    """A command: its ``program`` name, a sentence ``about`` it, its own options, and the work.

    ``parser`` makes the parser with the common options (default: all of them); ``room``: the folder of the command.
    """

    program: str
    about: str
    add_options: Callable[[argparse.ArgumentParser], None]
    find: Callable[[Session], Findings]
    parser: Callable[[str, str], OneLineParser] = parser_for
    room: str = "eval"

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run with the arguments ``argv`` (default: the command line); return the exit code."""
        return run_guarded(self.program, self.run, argv)

    def options_from(self, argv: Sequence[str]) -> argparse.Namespace:
        """The options of the command line; exit 2 with one line where they are refused."""
        parser = self.parser(self.program, self.about)
        self.add_options(parser)
        return argparse.Namespace(**(ABSENT | vars(parser.read(argv))))

    def work(self, options: argparse.Namespace) -> tuple[Session, Findings]:
        """Make the runs; the session has the notes, of which warnings are some.

        ``ValueError``, in one line, where the options are refused.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_outputs(options)
            Silence.begin()
            session = Session(options, crew_from(options), routings=take_routings(options))
            found = self.find(session)
        session.notes += [*found.notes, *warning_notes(caught)]
        return session, found

    def run(self, argv: list[str]) -> int:
        """Read the options, find, print, write; return the exit code."""
        options = self.options_from(argv)
        began, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        try:
            session, found = self.work(options)
        except ValueError as error:
            refuse(self.program, str(error))
        command = ["python", f"{self.room}/{self.program}", *argv]
        manifest = artefacts.manifest(command, session.seeds, began, time.monotonic() - clock)
        manifest["interrupted"] = bool(found.interrupted)
        experiment = self.program.removesuffix(".py")
        summary = artefacts.as_json(found.summary(experiment, session.seeds, session.notes))
        problem = ""
        try:  # before anything is printed: a reader that goes away must not cost results
            write_outputs(experiment, found, session, summary, manifest)
        except ValueError as error:  # a file that cannot be written, or one that a figure needs and is damaged
            problem = str(error)
        marked = options.format != "text"
        printed = found.marked_up(options.format, session.notes) if marked else found.text(session.notes)
        show(summary if options.json else printed)
        if problem:
            refuse(self.program, problem)
        if found.interrupted:
            say(f"{self.program}: interrupted; {found.interrupted}")
        return INTERRUPTED if found.interrupted else 0


def take_routings(options: argparse.Namespace) -> list[BoundRouting]:
    """The routing policies of ``--routing``, which leaves the options: the scenario then has none of its own.

    None where it names one rule of the engine, which sees the loads as they are.
    """
    given = getattr(options, "routing", None)
    rules = [name for name in ROUTINGS if name != ASKED]
    if given is None or (given in rules and (given == rules[0] or not getattr(options, "load_age_s", None))):
        return []
    options.routing = None
    return parse_routings(given)


def plain_parser(program: str, about: str) -> OneLineParser:
    """A parser without options."""
    return OneLineParser(prog=program, description=about, allow_abbrev=False)


def run_options_parser(program: str, about: str) -> OneLineParser:
    """A parser with the options of runs, for an experiment that brings its scenarios."""
    parser = plain_parser(program, about)
    add_run_options(parser)
    return parser


def crew_from(options: argparse.Namespace) -> Crew:
    """The crew and the store that ``options`` ask for."""
    store = CellStore(Path(options.out) / FILE) if options.out else None
    return Crew(options.jobs, store, connect(options.ray) if options.ray else None)


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse files that cannot be written, before the work; ``ValueError`` with one line for the user."""
    if options.out:
        check_folder(Path(options.out), "--out")
        for name in OWN_FILES:
            check_own(Path(options.out) / name)
    given = {f"--{name}": Path(getattr(options, name)) for name in ("report", "timeline") if getattr(options, name)}
    for option, path in given.items():
        check_file(path, option)
    check_apart(given, options)


def check_own(path: Path) -> None:
    """Refuse a file of ``--out`` whose place is taken by something that is no regular file."""
    if os.path.lexists(path):
        check_file(path, "--out")


def check_apart(outputs: Mapping[str, Path], options: argparse.Namespace) -> None:
    """Refuse an output that is another output, or that would replace a file that the command reads."""
    taken = {os.path.realpath(Path(options.out) / name): "--out" for name in OWN_FILES} if options.out else {}
    for name, value in vars(options).items():
        if isinstance(value, str | Path) and name not in ("out", "report", "timeline"):
            taken |= {os.path.realpath(file): f"--{name.replace('_', '-')}" for file in files_in(str(value))}
    for option, path in outputs.items():
        place = os.path.realpath(path)
        if place in taken:
            raise ValueError(f"{option} {str(path)!r} is a file of {taken[place]}: give another file.")
        taken[place] = option


def files_in(text: str) -> list[str]:
    """The files that exist among what a text names: itself, and policies like ``FILE.py:NAME``."""
    words = [text, *(part.strip().partition(".py:")[0] + ".py" for part in text.split(",") if ".py" in part)]
    return [word for word in words if word and os.path.isfile(word)]


def caption_of(drawing: Callable[[], Any]) -> str:
    """What a figure shows in a sentence: the first line of the docstring of what draws it; empty where it has none."""
    function = drawing.func if isinstance(drawing, functools.partial) else drawing
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")


def warning_notes(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """The warnings as notes, each once."""
    return list(dict.fromkeys(f"Note: {w.message}" for w in caught if w.category is UserWarning))


def write_outputs(
    experiment: str, found: Findings, session: Session, summary: str, manifest: Mapping[str, Any]
) -> None:
    """Write the files that ``--out``, ``--report``, ``--timeline`` and options of the command itself ask for."""
    options = session.options
    with_figures = bool((options.out or options.report) and found.drawings)
    figures = style.draw_all(found.drawings) if with_figures and style.available() else {}
    if options.out:
        folder = Path(options.out)
        contents = {"summary.json": f"{summary}\n", "manifest.json": f"{artefacts.as_json(manifest)}\n"}
        make_folder(folder)
        for name, content in (found.files(session.rows) | contents).items():
            write_text(folder / name, content)
        style.write_all(figures, folder / "figures")
    if options.report:
        heading = found.heading if found.heading.startswith(experiment) else f"{experiment}, {found.heading}"
        remarks = found.page_remarks(session.notes)
        captions = {name: caption_of(drawing) for name, drawing in found.drawings.items()}
        write_text(
            Path(options.report), page(heading, found.tables, figures, remarks, manifest, found.answer, captions)
        )
    if options.timeline:
        write_timeline(found.timeline, Path(options.timeline))
    found.write_more(options)
    if with_figures and not style.available():
        say(style.HINT)
