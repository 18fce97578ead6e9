"""Compare policies on one scenario: ``python eval/compare.py --policies static,dynamic,multibin``.

Every policy gets the same servers, the same predictions and, seed by seed, the same arrivals.  Prints one table; with
``--out`` leaves results.csv, summary.json, figures/*.png, manifest.json and cells.jsonl, the finished runs, which a
second start does not make again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsched.eval.cli.findings import Drawings, Findings
from llmsched.eval.cli.frame import Experiment, Session
from llmsched.eval.cli.options import add_price
from llmsched.eval.cli.progress import Progress
from llmsched.eval.experiments.overload import arrival_rates, overload_notes
from llmsched.eval.figures.comparison import ComparisonData, comparison_drawings
from llmsched.eval.report.artefacts import ResultsFile
from llmsched.eval.report.cost import cost_line, cost_table, costs
from llmsched.eval.report.policy_table import policy_tables, policy_text, price_table
from llmsched.eval.report.tables import text
from llmsched.eval.report.text import fold
from llmsched.eval.report.textual import footnotes, heading
from llmsched.eval.report.timed_trace import how_to_send, timed_trace
from llmsched.eval.runs.aggregate import by_policy, policy_summaries
from llmsched.eval.runs.cells import Crew
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import VALIDATED, Entrant, at_load, resolve
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario
from llmsched_env.commands.interrupts import heed
from llmsched_env.files.showing import visible
from llmsched_env.files.writing import check_file, write_text
from llmsched_env.requests import Requests

if TYPE_CHECKING:
    from llmsched.eval.analysis.client_log import ClientLog


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    parser.add_argument(
        "--policies",
        default="static,dynamic,multibin",
        metavar="LIST",
        help="names, each with parameters after colons, among them the name in results (label): "
        "static:batch=16,timeout:batch=auto,my.py:mine:label=ours",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="Show the simulation beside this log of a real server (docs/howto/own_log.md). Its requests are the "
        "workload where --workload is not given.",
    )
    parser.add_argument(
        "--write-workload",
        type=Path,
        metavar="FILE",
        help="Write the requests of the first seed as vLLM's timed trace, to send them to a real server.",
    )
    add_price(parser)


@dataclass
class Comparison:
    """A comparison in progress: the policies and their scenario, the seeds, the finished runs."""

    scenario: Scenario
    entrants: Sequence[Entrant]
    seeds: Sequence[int]
    done: list[Outcome] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """Policies in order, as typed."""
        return [entrant.label for entrant in self.entrants]

    def described(self) -> dict[str, Any]:
        """The scenario and the seeds, for JSON; of routing policies the labels."""
        routed = [entrant.policy.routing.label for entrant in self.entrants if entrant.policy.routing is not None]
        routing = {"routing": ",".join(dict.fromkeys(routed))} if routed else {}
        return self.scenario.describe() | routing | {"seeds": list(self.seeds)}

    def cells(self, *, timeline: bool) -> list[Cell]:
        """All runs, seed by seed; ``timeline``: those of the first seed keep their timeline."""
        return [
            Cell(entrant.label, entrant.policy, entrant.scenario, seed, timeline=timeline and seed == self.seeds[0])
            for seed in self.seeds
            for entrant in self.entrants
        ]

    def run(self, crew: Crew, results: ResultsFile | None, *, timeline: bool) -> str:
        """Make the runs; empty, or after Ctrl-C a line that says how many had finished.

        Finished runs stay; where there is none, ``KeyboardInterrupt`` passes through.
        """
        cells = self.cells(timeline=timeline)
        try:
            with Progress("comparing", len(cells)) as progress:
                for run in crew.run_cells(cells, progress.look):
                    self.done.append(run.outcome)
                    if results is not None:
                        results.append(run.outcome)
                    progress.step(f"{run.outcome.policy}, seed {run.outcome.seed}", stored=run.stored)
        except KeyboardInterrupt:
            if not self.done:
                raise
            heed()
            return f"{len(self.done)} of {len(cells)} runs had finished"
        return ""

    def summaries(self) -> list[dict[str, Any]]:
        """The summary of every policy that has a run (docs/reference/metrics.md)."""
        entrants = {entrant.label: entrant for entrant in self.entrants}
        summaries = []
        for found in policy_summaries(self.done, self.labels):
            entrant = entrants[found["policy"]]
            routing = entrant.policy.routing
            typed = entrant.policy.text if routing is None else f"{entrant.policy.text} @ {routing.label}"
            about = {"parameters": typed, "clairvoyant": entrant.policy.clairvoyant}
            summaries.append({"policy": found.pop("policy"), **about, "chosen": entrant.choice or None, **found})
        return summaries

    def drawings(self, summaries: Sequence[Mapping[str, Any]]) -> Drawings:
        """The figures."""
        slos = self.scenario.config.slos
        data = ComparisonData(
            title=self.scenario.title,
            summaries=summaries,
            runs=by_policy(self.done, self.labels),
            e2e_s=slos[0].e2e_s if len(slos) == 1 else float("inf"),
            ttft_s=slos[0].ttft_s if len(slos) == 1 else float("inf"),
            tpot_s=slos[0].tpot_s if len(slos) == 1 else float("inf"),
            bins=self.scenario.bin_names,
        )
        return comparison_drawings(data)


@dataclass(frozen=True, kw_only=True)
class ComparisonFindings(Findings):
    """The findings of a comparison: ``summaries``, one per policy, over ``seeds``; ``runs``, by policy and seed."""

    summaries: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    runs: Sequence[Outcome] = ()
    price: float | None = None
    requests: Requests | None = None

    def remarks(self, notes: Sequence[str]) -> list[str]:
        """How to read the table, then the notes."""
        money = [cost_line(self.summaries)] if self.summaries and self.price is None else []
        return [*footnotes(self.summaries, len(self.seeds)), *money, *notes]

    def page_remarks(self, notes: Sequence[str]) -> list[str]:
        """Those that hold for the page, whose tables have no stars and no brackets."""
        kept = [remark.removeprefix("* best of its column. ") for remark in self.remarks(notes)]
        return [remark.removesuffix(" (Brackets): it contains 0.").strip() for remark in kept]

    def text(self, notes: Sequence[str]) -> str:
        """One table of all policies, and below it their differences from the first."""
        money = [] if self.price is None else [text(cost_table(self.summaries, self.price))]
        remarks = "\n".join(fold(remark) for remark in self.remarks(notes))
        beside = [text(table) for table in self.tables if table.name == "against"]
        return "\n\n".join([self.heading, policy_text(self.summaries), *beside, *money, remarks])

    def summary(self, experiment: str, seeds: Sequence[int], notes: Sequence[str]) -> dict[str, Any]:
        """The summary of docs/reference/metrics.md: the scenario, and every policy that has a run."""
        policies = list(self.summaries)
        return {**self.about, "policies": policies, "notes": list(notes), "interrupted": bool(self.interrupted)}

    def files(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """None: results.csv was written while the runs were made."""
        return {}

    def write_more(self, options: argparse.Namespace) -> None:
        """The requests of the first seed as a timed trace."""
        if options.write_workload and self.requests is not None:
            write_text(options.write_workload, timed_trace(self.requests))


def prepare(session: Session) -> Comparison:
    """The comparison that the options ask for; choices that are left open are made by runs of the session's crew."""
    options = session.options
    policies = session.policies(options.policies)
    scenario = scenario_from(options)
    if scenario.load is not None:
        scenario, capacity = at_load(scenario, session.crew)
        session.notes.append(
            f"Load {scenario.load:g} = {scenario.load:g} x {capacity.rate:.4g} requests/s, the highest rate at which "
            f"{capacity.policy} serves 95 % within the SLO ({VALIDATED})."
        )
    entrants = resolve(policies, scenario, session.crew)
    choices = [f"Chosen: {entrant.choice}." for entrant in entrants if entrant.choice]
    if scenario.workload.trace is not None:
        note = trace_note(scenario, session.seeds[0], on_same_rows=bool(choices) or scenario.load is not None)
        session.notes.append(note)
    session.notes += choices
    return Comparison(scenario, entrants, session.seeds)


def trace_note(scenario: Scenario, seed: int, *, on_same_rows: bool) -> str:
    """What a result on a recorded trace covers, and the rate at which the scored requests of ``seed`` come;
    ``on_same_rows``: something was chosen by runs on the trace too."""
    trace = scenario.workload.trace
    assert trace is not None
    if scenario.workload.linked:
        return sessions_note(scenario, seed)
    times = scenario.draw(seed).arrival_s[scenario.workload.warmup :]
    span = float(times[-1] - times[0])
    rate = f"{(len(times) - 1) / span:.4g} requests/s" if span > 0 else "one instant"
    about = [
        f"each seed starts it at another row, so intervals do not cover other traces; the first "
        f"{scenario.workload.warmup:,} requests of a run, from which bins may be cut, are simulated and not scored",
        f"the scored ones of seed {seed} come at {rate}",
        *(["what was chosen was chosen on the same rows, started elsewhere"] if on_same_rows else []),
        *trace.notes,
    ]
    return f"Trace: {'; '.join(about)}."


def sessions_note(scenario: Scenario, seed: int) -> str:
    """What a result on sessions, or on the list of a closed loop, of a trace covers."""
    requests, trace = scenario.draw(seed), scenario.workload.trace
    assert trace is not None
    if not scenario.workload.has_sessions:
        return f"Trace: its {len(requests):,} requests are a list that the clients share; its clock is not used."
    known = "starts at another one" if trace.links is not None and trace.links.clocked else "has another order of them"
    count = len(set(requests.session.tolist()))
    about = [
        f"{len(requests):,} requests in {count:,} sessions, each sent its think time after the answer before it",
        f"each seed {known}, so intervals do not cover other traces",
        *trace.notes,
    ]
    return f"Trace: {'; '.join(about)}."


def find(session: Session) -> Findings:
    """Make the runs, and results.csv with them; then the summaries."""
    options = session.options
    if options.write_workload:
        check_file(options.write_workload, "--write-workload")
    log = None if options.against is None else log_with_times(options.against)
    with tempfile.TemporaryDirectory() as folder:
        resent = log if options.workload is None else None
        if resent is not None:
            from llmsched.eval.analysis.against import write_workload  # see log_with_times

            options.workload = str(write_workload(resent, Path(folder), options.against.stem))
        comparison = prepare(session)
    if resent is not None:  # a file that is gone says nothing to a reader
        comparison.scenario = replace(comparison.scenario, source=visible(str(options.against)))
    results = None
    if options.out:
        config = comparison.scenario.config
        results = ResultsFile(Path(options.out) / "results.csv", config)
    interrupted = comparison.run(
        session.crew, results, timeline=bool(options.out or options.report or options.keep_timeline)
    )
    if interrupted:
        session.notes.append(f"Interrupted: {interrupted} and are shown.")
    if results is not None:
        results.finish(comparison.done, comparison.labels)
    if not interrupted:
        rates = arrival_rates(comparison.scenario, comparison.seeds)
        session.notes += overload_notes(comparison.entrants, comparison.done, rates, session.crew)
    gpus, price = comparison.scenario.gpus, options.price
    summaries = [summary | costs(summary, gpus, price) for summary in comparison.summaries()]
    tables = [*policy_tables(summaries), price_table(summaries)] + (
        [] if price is None else [cost_table(summaries, price)]
    )
    slos = comparison.scenario.config.slos
    if log is not None:
        from llmsched.eval.analysis.against import against_table, measured_summary, simulated_summaries

        if len(slos) > 1:
            raise ValueError("--against with --slo-classes: a log does not say which class a request is of.")
        cells = [cell for cell in comparison.cells(timeline=False) if cell.seed == session.seeds[0]]
        simulated = simulated_summaries(log, cells)
        tables.append(against_table(options.against.name, measured_summary(log, slos[0]), simulated))
    if options.write_workload and comparison.scenario.workload.linked:
        raise ValueError("--write-workload writes arrivals, and those of sessions and closed loops depend on answers.")
    requests = comparison.scenario.draw(session.seeds[0]) if options.write_workload else None
    if requests is not None:
        session.notes.append(f"To send the workload: {how_to_send(str(options.write_workload), requests)}.")
    return ComparisonFindings(
        heading=heading(comparison.scenario, comparison.seeds),
        tables=tables,
        drawings=comparison.drawings(summaries),
        about={"scenario": comparison.described()},
        timeline=[cell for cell in comparison.cells(timeline=False) if cell.seed == comparison.seeds[0]],
        interrupted=interrupted,
        summaries=summaries,
        seeds=comparison.seeds,
        runs=[run for runs in by_policy(comparison.done, comparison.labels).values() for run in runs],
        price=price,
        requests=requests,
    )


def log_with_times(path: Path) -> ClientLog:
    """The log of ``--against``; ``ValueError`` where it has no times to hold a simulation against."""
    from llmsched.eval.analysis.reading import choose_run, read_logs  # what logs need takes long to import

    log = choose_run(path, read_logs(path, None), None)
    if not log.timed:
        raise ValueError(f"--against {str(path)!r} ({log.kind}) has no times to the first token and to the end.")
    return log


EXPERIMENT = Experiment(
    "compare.py",
    "Compare scheduling policies on the same arrivals and the same servers.",
    add_options,
    find,
)
