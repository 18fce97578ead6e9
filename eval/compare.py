"""Compare policies on one scenario: ``python eval/compare.py --policies static,dynamic,multibin``.

Every policy gets the same servers, the same predictions and, seed by seed, the same arrivals.  Prints one
table; with ``--out`` leaves results.csv, summary.json, figures/*.png, manifest.json and cells.jsonl, the finished runs,
which a second start does not make again.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python still imports: leave without a traceback
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of eval/, whose names are its own

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmsched.eval.cli.command import INTERRUPTED, guarded, run_and_exit
from llmsched.eval.cli.frame import check_outputs, crew_from, noted
from llmsched.eval.cli.options import parser_for
from llmsched.eval.cli.parser import refuse
from llmsched.eval.cli.progress import Progress
from llmsched.eval.figures import comparison as figures
from llmsched.eval.report import artefacts, textual
from llmsched.eval.report.chrome_trace import write_timeline
from llmsched.eval.report.page import page
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.aggregate import by_policy, policy_summaries
from llmsched.eval.runs.cells import Crew
from llmsched.eval.runs.from_options import scenario_from
from llmsched.eval.runs.intervals import Interval
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.scenario import Scenario
from llmsched.eval.runs.tune import VALIDATED, Entrant, at_load, resolve
from llmsched.policies import parse_list

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAM = "compare.py"


@dataclass
class Comparison:
    """A comparison under way: who runs in what, what has finished, what is to be said about it."""

    scenario: Scenario
    entrants: Sequence[Entrant]
    seeds: Sequence[int]
    notes: list[str] = field(default_factory=list)
    done: list[Outcome] = field(default_factory=list)
    interrupted: bool = False

    @property
    def labels(self) -> list[str]:
        """Policies in order, as typed."""
        return [entrant.label for entrant in self.entrants]

    def cells(self, *, timeline: bool) -> list[Cell]:
        """All runs, seed by seed; ``timeline``: the first seed keeps its course over time."""
        return [
            Cell(entrant.label, entrant.policy, entrant.scenario, seed, timeline=timeline and seed == self.seeds[0])
            for seed in self.seeds
            for entrant in self.entrants
        ]

    def run(self, crew: Crew, results: artefacts.ResultsFile | None, *, timeline: bool) -> None:
        """Make the runs.  Ctrl-C ends it early and sets ``interrupted``; what had finished stays."""
        cells = self.cells(timeline=timeline)
        try:
            with Progress("comparing", len(cells)) as progress:
                for done in crew.made(cells):
                    self.done.append(done.outcome)
                    if results is not None:
                        results.append(done.outcome)
                    progress.step(f"{done.outcome.policy}, seed {done.outcome.seed}", kept=done.kept)
        except KeyboardInterrupt:
            self.interrupted = True
            self.notes.append(f"Interrupted: {len(self.done)} of {len(cells)} runs had finished and are shown.")

    def summary(self) -> dict[str, Any]:
        """The summary of docs/reference/metrics.md: the scenario, and every policy that has a run."""
        entrants = {entrant.label: entrant for entrant in self.entrants}
        policies = []
        for found in policy_summaries(self.done, self.labels):
            entrant = entrants[found["policy"]]
            about = {"parameters": entrant.policy.text, "clairvoyant": entrant.policy.clairvoyant}
            policies.append({"policy": found.pop("policy"), **about, "chosen": entrant.chosen or None, **found})
        scenario = self.scenario.describe() | {"seeds": list(self.seeds)}
        return {"scenario": scenario, "policies": policies, "notes": self.notes, "interrupted": self.interrupted}


def options_from(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line, or exit 2 with one line."""
    parser = parser_for(PROGRAM, "Compare scheduling policies on the same arrivals and the same servers.")
    parser.add_argument(
        "--policies",
        default="static,dynamic,multibin",
        metavar="LIST",
        help="names, each with parameters after colons: static:batch=16,timeout:batch=auto,my.py:mine",
    )
    return parser.read(argv)


def prepared(options: argparse.Namespace, crew: Crew) -> Comparison:
    """The comparison that the options ask for, everything that was left to choose chosen by runs of ``crew``."""
    policies = parse_list(options.policies)
    scenario = scenario_from(options)
    notes = []
    if scenario.load is not None:
        scenario, capacity = at_load(scenario, crew)
        notes.append(
            f"Load {scenario.load:g} = {scenario.load:g} x {capacity.rate:.4g} requests/s, the highest rate at which "
            f"{capacity.policy} serves 95 % within the SLO ({VALIDATED})."
        )
    entrants = resolve(policies, scenario, crew)
    chosen = [f"Chosen: {entrant.chosen}." for entrant in entrants if entrant.chosen]
    trace = scenario.workload.trace
    if trace is not None:
        about = [
            f"each seed starts it at another row, so intervals do not cover other traces; the first "
            f"{scenario.workload.warmup:,} requests of a run, from which bins may be cut, are simulated and not scored",
            *(["what was chosen was chosen on the same rows, started elsewhere"] if notes + chosen else []),
            *trace.notes,
        ]
        notes.append(f"Trace: {'; '.join(about)}.")
    notes += chosen
    return Comparison(scenario, entrants, range(options.seed, options.seed + options.seeds), notes)


def show(comparison: Comparison, summary: dict[str, Any], *, as_json: bool) -> None:
    """Print the summary as JSON, or as a table with what belongs to it."""
    if as_json:
        print(artefacts.as_json(summary))
        return
    print(textual.heading(comparison.scenario, comparison.seeds))
    print()
    print(textual.table(summary["policies"]))
    print()
    for note in [*textual.footnotes(summary["policies"], len(comparison.seeds)), *comparison.notes]:
        print(textual.folded(note))


def keep(comparison: Comparison, summary: dict[str, Any], options: argparse.Namespace, about: dict[str, Any]) -> None:
    """Write what ``--out``, ``--report`` and ``--timeline`` ask for, the rows of results.csv apart."""
    drawn = drawings(comparison, summary) if options.out or options.report else {}
    if options.out:
        folder = Path(options.out)
        artefacts.write_text(folder / "summary.json", artefacts.as_json(summary) + "\n")
        artefacts.write_text(folder / "manifest.json", artefacts.as_json(about) + "\n")
        if drawn:
            figures.write(drawn, folder / "figures")
    if options.report:
        heading = textual.heading(comparison.scenario, comparison.seeds)
        notes = [*textual.footnotes(summary["policies"], len(comparison.seeds)), *comparison.notes]
        artefacts.write_text(Path(options.report), page(heading, tables(summary["policies"]), drawn, notes, about))
    if options.timeline:
        cells = [cell for cell in comparison.cells(timeline=False) if cell.seed == comparison.seeds[0]]
        write_timeline(cells, Path(options.timeline))


def drawings(comparison: Comparison, summary: dict[str, Any]) -> dict[str, Figure]:
    """The figures by name; none, and a line on standard error, without matplotlib."""
    if not summary["policies"]:
        return {}
    if not figures.available():
        print(figures.HINT, file=sys.stderr)
        return {}
    slo = comparison.scenario.config.slos
    material = figures.Material(
        title=comparison.scenario.title,
        summaries=summary["policies"],
        runs=by_policy(comparison.done, comparison.labels),
        e2e_s=slo[0].e2e_s if len(slo) == 1 else float("inf"),
        ttft_s=slo[0].ttft_s if len(slo) == 1 else float("inf"),
        bins=comparison.scenario.bin_names,
    )
    return figures.drawn(figures.drawings(material))


def tables(summaries: Sequence[dict[str, Any]]) -> list[Table]:
    """The printed table, and the one of differences from the first policy, for the report."""
    columns = [
        Column(c.key, c.title, c.unit, digits=1 if c.factor == 100.0 else 2, factor=c.factor) for c in textual.COLUMNS
    ]
    own = [{"policy": s["policy"]} | {c.key: Interval(s[c.key], s["ci95"][c.key]) for c in columns} for s in summaries]
    gaps = [
        {"policy": s["policy"]}
        | {c.key: Interval(s["paired"][c.key]["difference"], s["paired"][c.key]["ci95"]) for c in columns}
        for s in summaries
        if s["paired"]
    ]
    name = Column("policy", "policy")
    found = [Table("policies", "Policies on the same arrivals and servers", [name, *columns], own)]
    if gaps:
        signed = [name, *(replace(column, signed=True) for column in columns)]
        found.append(Table("differences", f"Difference from {summaries[0]['policy']}, paired by seed", signed, gaps))
    return found


def compare(argv: list[str]) -> int:
    """Run the comparison, print it, keep it; the exit code."""
    options = options_from(argv)
    began, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_outputs(options)
            crew = crew_from(options)
            comparison = prepared(options, crew)
            results = None
            if options.out:
                bins = comparison.scenario.config.queueing.num_bins
                results = artefacts.ResultsFile(Path(options.out) / "results.csv", bins)
            comparison.run(crew, results, timeline=bool(options.out or options.report))
        except ValueError as error:
            refuse(PROGRAM, str(error))
    comparison.notes += noted(caught)
    summary = comparison.summary()
    if comparison.done:
        show(comparison, summary, as_json=options.json)
    if results is not None:
        results.finish(comparison.done, comparison.labels)
    command = ["python", "eval/compare.py", *argv]
    about = artefacts.manifest(command, comparison.seeds, began, time.monotonic() - clock)
    keep(comparison, summary, options, about | {"interrupted": comparison.interrupted})
    if comparison.interrupted:
        print(f"{PROGRAM}: interrupted; {len(comparison.done)} runs had finished", file=sys.stderr)
    return INTERRUPTED if comparison.interrupted else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    return guarded(PROGRAM, compare, argv)


if __name__ == "__main__":
    run_and_exit(main)
