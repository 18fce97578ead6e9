"""Learned against tuned schedulers: every case at every load, on held-out arrivals, with the announced bars.

Loads are multiples of the capacity of ``static:batch=auto`` in that case; in the engine `continuous` of ``sarathi``, in
the scenario `default` with its best token budget.  Every heuristic has the best parameters of its grid for that case
and load, on the validation seeds.  The best heuristic is then chosen per case and load in hindsight, on the scored
seeds, which favours it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, run_options_parser
from llmsched.eval.cli.option_lists import list_of
from llmsched.eval.cli.progress import LongRun
from llmsched.eval.cli.readers import number
from llmsched.eval.experiments.benchmark.capacity import RUNS_OF_A_SEARCH, capacity_table, case_capacity
from llmsched.eval.experiments.benchmark.cases import CASES, Case, base_of, case_of, cases_of, target_of
from llmsched.eval.experiments.benchmark.checkpoints import challenger_title, networks
from llmsched.eval.experiments.benchmark.tables import (
    PAPERS,
    all_rows,
    bars,
    by_load,
    by_network,
    miss_figure,
    profile_figure,
    strata_of,
)
from llmsched.eval.runs.intervals import interval
from llmsched.eval.runs.runner import Cell
from llmsched.eval.runs.tune import CAPACITY_ATTAINMENT, VALIDATED, VALIDATION_SEEDS, resolve
from llmsched.policies import Bound, parse_list
from llmsched.policies.selection import label_notes
from llmsched_env.options.words import ENGINES

OTHERS = (
    "multibin:select=oldest,longest-queue,sjf:batch=auto,edf:batch=auto,least-slack,timeout:batch=auto:wait=1000,"
    "aimd:share=auto,multibin-fixed:batch=auto,weighted-queue:power=auto"
)
"""Further rivals, tuned where they have parameters."""

OTHERS_CONTINUOUS = (
    "sarathi:budget=auto:overdue=auto,fcfs:overdue=auto,iterative:overdue=auto,sjf:overdue=auto,edf:overdue=auto,dynamic:overdue=auto,"
    "multibin:overdue=auto,multibin:select=oldest:overdue=auto,longest-queue:overdue=auto,least-slack:overdue=auto"
)
"""Further rivals in the engine `continuous`; all but the first have the scenario's token budget."""

LOADS = (0.5, 0.7, 0.9, 1.0, 1.2, 1.4, 1.6)
TRANSIENT = 0.1
"""Share of the requests at each end of a run that is not scored: a run begins empty, and ends without arrivals."""

LEAST_SCORED = 0.1

RUNS_OF_A_UNIT = 120
"""About the number of runs that find the capacity of a tuned policy on the validation seeds."""

METRICS = {
    "goodput": ("request_goodput", 1.0),
    "p99": ("p99_e2el_ms", 1000.0),
    "longest_wait": ("longest_wait_ms", 1000.0),
    "refused": ("refused_share", 1.0),
    "jain": ("jain_index", 1.0),
    "worst_bin": ("worst_bin_miss_rate", 1.0),
}
"""Columns besides misses: the key of a summary, and the divisor of its unit."""


@dataclass(frozen=True)
class Contest:
    """The policies: the ``networks`` of the challenger, whose title is ``challenger``; the ``rivals``, which count for
    the bars; and others, which are reported ``also``."""

    challenger: str
    networks: Sequence[Bound]
    rivals: Sequence[Bound]
    also: Sequence[Bound]

    @property
    def all(self) -> list[Bound]:
        """All of them, in the order of the tables."""
        return [*self.networks, *self.rivals, *self.also]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("benchmark").add_argument
    add(
        "--challenger",
        default="network",
        metavar="POLICY,...",
        help="on trial: network, or its weights, network:path=runs/seed*",
    )
    add("--engine", choices=ENGINES, default="batch", help="batch, with an E2E target, or continuous, TTFT and TPOT")
    add("--rivals", default=None, metavar="LIST", help="heuristics besides static, dynamic and multibin")
    add("--also", default="", metavar="LIST", help="policies that are reported and do not count for the bars")
    add("--loads", type=list_of(number(0, 10, above=True)), default=LOADS, metavar="X,...", help="default 0.5 to 1.6")
    add(
        "--scenario",
        choices=tuple(CASES),
        default="default",
        help="what the cases change: default, or llama2-h100 (2023)",
    )
    add("--cases", default="all", metavar="NAME;NAME", help=f"of {'; '.join(CASES['default'])}")
    add("--trace", nargs="+", default=[], metavar="FILE", help="traces, as further cases")
    add("--requests", type=number(100, 1e7, whole=True), default=20_000, metavar="N", help="per run (default 20000)")
    share = number(0, 1 - LEAST_SCORED)
    add("--warmup", type=share, default=TRANSIENT, metavar="SHARE", help="first requests, not scored (default 0.1)")
    add("--cooldown", type=share, default=TRANSIENT, metavar="SHARE", help="last requests, not scored (default 0.1)")
    add("--capacity", action="store_true", help="also search the highest rate that keeps 95 %% within the target")
    add("--ray", metavar="ADDRESS", help="make the runs on a Ray cluster")
    add("--report", metavar="FILE", help="write one HTML page")
    parser.set_defaults(seeds=30, shares=(CAPACITY_ATTAINMENT,))


def contest_of(options: argparse.Namespace) -> Contest:
    """The policies that the options ask for; ``ValueError`` in one line where they are refused."""
    if options.warmup + options.cooldown > 1 - LEAST_SCORED:
        raise ValueError(
            f"--warmup {options.warmup:g} and --cooldown {options.cooldown:g} leave too little: give shares whose sum "
            f"is at most {1 - LEAST_SCORED:g}."
        )
    on_trial = networks(options.challenger, base_of(options).config)
    others = options.rivals
    if others is None:
        others = OTHERS if options.engine == "batch" else OTHERS_CONTINUOUS
    rivals = [*parse_list(",".join(PAPERS)), *(parse_list(others) if others else ())]
    contest = Contest(challenger_title(on_trial), on_trial, rivals, parse_list(options.also) if options.also else [])
    labels = [bound.label for bound in contest.all]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"{label} is there {labels.count(label)} times: name it once, as challenger, rival or also."
            )
    return contest


def run_case(case: Case, load: float, session: Session, contest: Contest) -> list[dict[str, Any]]:
    """A row per policy, all networks of the challenger in one: parameters, misses by seed, METRICS."""
    scenario = case.scenario.at_rate(load * case.unit)
    tuned = resolve(contest.all, scenario, session.crew)
    cells = [Cell(e.label, e.policy, e.scenario, seed) for e in tuned for seed in session.seeds]
    factors = [{"case": case.name, "load": load, "parameters": e.policy.text} for e in tuned for _ in session.seeds]
    found = session.runs(cells, f"{case.name}, load {load:g}", factors)
    about = {"case": case.name, "load": load, "rate": scenario.workload.mean_rate}
    n, many = len(session.seeds), len(contest.networks)
    runs = [[outcome.summary for outcome in found[row * n : (row + 1) * n]] for row in range(len(tuned))]
    parameters = tuned[0].policy.text if many == 1 else contest.challenger
    rows = [row_of(about, contest.challenger, parameters, runs[:many])]
    rivals = zip(tuned[many:], runs[many:], strict=True)
    return rows + [row_of(about, e.label, e.policy.text, [own]) for e, own in rivals]


def row_of(
    about: Mapping[str, Any], name: str, parameters: str, summaries: Sequence[Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """A row from the summaries of one policy, or of all networks of the challenger, by seed: means over networks."""
    values = {
        key: np.array([[run[metric] / unit for run in runs] for runs in summaries])
        for key, (metric, unit) in METRICS.items()
    }
    misses = np.array([[1.0 - run["slo_attainment"] for run in runs] for runs in summaries])
    found = {key: interval(list(value.mean(axis=0))) for key, value in values.items()}
    return {**about, "policy": name, "parameters": parameters, "misses": misses.mean(axis=0), **found} | (
        {"networks": misses} if len(misses) > 1 else {}
    )


def find(session: Session) -> Findings:
    """Tune, run, compare."""
    options = session.options
    cases = cases_of(options)
    contest = contest_of(options)
    session.notes += label_notes(contest.all)
    rows: list[dict[str, Any]] = []
    described, rates = [], []
    with LongRun("benchmark.py", "stages", stages_of(cases, contest, session)) as long_run:
        for name, words in cases.items():
            case = None
            for load in options.loads:
                with long_run.stage(f"{name}, load {load:g}"):
                    case = case or case_of(name, words, options, session.crew)
                    rows += run_case(case, load, session, contest)
            assert case is not None
            described.append({"case": name, "unit_rate": case.unit, **case.scenario.describe()})
            if options.capacity:
                with long_run.stage(f"{name}, capacity"):
                    rates.append(case_capacity(name, case.scenario.at_rate(case.unit), contest.networks, session))
    strata = strata_of(rows, contest.challenger, [bound.label for bound in contest.also])
    rng = np.random.default_rng(options.seed)
    table = by_load(strata, rows, contest.challenger)
    shown = [bars(strata, [float(row["goodput"]) for row in table.rows], rng), table]  # type: ignore[arg-type]
    if len(contest.networks) > 1:
        shown.append(by_network(strata, [network.label for network in contest.networks], rng))
    if options.capacity:
        shown.append(capacity_table(rates, contest.challenger, rng))
    heading = heading_of(contest, len(strata), session)
    drawings = {
        "misses": lambda: miss_figure(strata, contest.challenger, heading),
        "profile": lambda: profile_figure(strata, contest.challenger, heading),
    }
    return Findings(heading, [*shown, all_rows(rows)], drawings, {"cases": described})


def heading_of(contest: Contest, strata: int, session: Session) -> str:
    """The heading: a paragraph on what was run."""
    options = session.options
    cut = ""
    if options.warmup or options.cooldown:
        cut = f" (the first {100 * options.warmup:g} % and the last {100 * options.cooldown:g} % are not scored)"
    others = len(contest.rivals) + len(contest.also)
    return (
        f"{contest.challenger} against {others} heuristics, {strata} case-loads x {len(session.seeds)} seeds x "
        f"{options.requests:,} requests{cut}; {target_of(options)}; tuned on {VALIDATED}"
    )


def stages_of(cases: Mapping[str, Any], contest: Contest, session: Session) -> dict[str, float]:
    """The stages of the long run, and about the number of runs of each."""
    loads, seeds = session.options.loads, len(session.seeds)
    tried = len(VALIDATION_SEEDS) * sum(
        math.prod(len(grid) for grid in bound.autos.values()) for bound in contest.all if bound.autos
    )
    found: dict[str, float] = {}
    for name in cases:
        found |= {f"{name}, load {load:g}": float(tried + len(contest.all) * seeds) for load in loads}
        found[f"{name}, load {loads[0]:g}"] += RUNS_OF_A_UNIT
        if session.options.capacity:
            searches = (len(contest.networks) + len(PAPERS)) * seeds
            found[f"{name}, capacity"] = float(RUNS_OF_A_SEARCH * searches + RUNS_OF_A_UNIT * len(PAPERS))
    return found


EXPERIMENT = Experiment(
    "benchmark.py",
    "The learned scheduler against the tuned heuristics on held-out cases.",
    add_options,
    find,
    run_options_parser,
)
