"""Learned against tuned: every case at every load, on held-out arrivals, with the verdicts that were announced.

Loads are multiples of what ``static:batch=auto`` carries in that case.  Every heuristic's parameters are the best of
its grid at that case and load, on the validation seeds; the best heuristic is then chosen per case and load in
hindsight, on the scored seeds, which favours it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.charts import Panel, Series, lines
from eval.experiment import Experiment, Findings, Session, scenario_of
from eval.experiments.values import several
from eval.experiments.verdicts import Stratum, estimate, fewer, improvement, profile, reductions
from eval.intervals import Interval, interval
from eval.options import OneLineParser, add_run_options, number
from eval.runner import Cell
from eval.scenario import Scenario
from eval.tables import Column, Table
from eval.tune import REFERENCE, VALIDATED, capacity, resolve
from llmsched_env.workload.targets import FACTOR, QUANTILE, alone_target_s
from policies import Bound, parse_list

PAPERS = ("static:batch=auto", "dynamic:tbt=auto", "multibin:tbt=auto")
"""The schedulers of the papers, tuned."""

OTHERS = (
    "multibin:select=oldest,longest-queue,sjf:batch=auto,edf:batch=auto,least-slack,timeout:batch=auto:wait=1000,"
    "aimd:share=auto,multibin-fixed:batch=auto"
)
"""What an honest claim must also beat, tuned where there is something to tune."""

LOADS = (0.5, 0.7, 0.9, 1.0, 1.2, 1.4, 1.6)
DISCERNING = (0.02, 0.60)
"""Loads count for the headline where the best rival misses at least and at most this share."""

CASES: dict[str, tuple[str, ...]] = {
    "4 servers": (),
    "1 server": ("--servers", "1"),
    "16 servers": ("--servers", "16"),
    "bursty gaps": ("--burstiness", "0.25"),
    "Poisson gaps": ("--burstiness", "1"),
    "8 bins": ("--bins", "8"),
    "azure-code": ("--workload", "azure-code"),
    "bloom, little memory": ("--profile", "a100-80gb_bloom-176b_tp8"),
    "NEW profile": ("--profile", "a100-80gb_llama2-70b_tp8"),
    "NEW workload": ("--workload", "mooncake-conv"),
}
"""The default scenario with changes; the last two were never trained on.  The E2E target fits the case (targets)."""


@dataclass(frozen=True)
class Case:
    """A scenario without its load, and what a load of 1 is there (requests/s)."""

    name: str
    scenario: Scenario
    unit: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument_group("benchmark").add_argument
    add("--challenger", default="ppo", metavar="POLICY", help="who is on trial (default ppo)")
    add("--rivals", default=OTHERS, metavar="LIST", help="heuristics besides static, dynamic and multibin")
    add("--loads", type=several(number(0, 10, above=True)), default=LOADS, metavar="X,...", help="default 0.5 to 1.6")
    add("--cases", default="all", metavar="NAME;NAME", help=f"of {'; '.join(CASES)}")
    add("--trace", nargs="+", default=[], metavar="FILE", help="traces to be tried as further cases")
    add("--requests", type=number(100, 1e7, whole=True), default=20_000, metavar="N", help="per run (default 20000)")
    add("--ray", metavar="ADDRESS", help="make the runs on a Ray cluster")
    add("--report", metavar="FILE", help="one page of HTML")
    parser.set_defaults(seeds=30, timeline=None)


def plain_parser(program: str, about: str) -> OneLineParser:
    """A parser with the options of runs; cases bring their scenarios."""
    parser = OneLineParser(prog=program, description=about, allow_abbrev=False)
    add_run_options(parser)
    return parser


def cases_of(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """The cases asked for, as changes to the default scenario."""
    names = list(CASES) if options.cases == "all" else [name.strip() for name in options.cases.split(";")]
    for name in names:
        if name not in CASES:
            raise ValueError(f"--cases: {name!r} is not known. Choose from {'; '.join(CASES)}.")
    found = {name: CASES[name] for name in names}
    return found | {f"trace {Path(file).stem}": ("--workload", file) for file in options.trace}


def case_of(name: str, words: tuple[str, ...], session: Session) -> Case:
    """The case with the target that fits its hardware, and its unit of load."""
    probe = scenario_of("--rate", "1", "--requests", str(session.options.requests), *words)
    target = alone_target_s(probe.config.servers[0].profile, probe.source)
    scenario = scenario_of(
        *("--rate", "1", "--requests", str(session.options.requests), *words, "--goodput", f"e2el:{1000 * target!r}")
    )
    start = len(scenario.config.servers) / target
    return Case(name, scenario, capacity(parse_list(REFERENCE)[0], scenario.at_rate(start), session.crew).rate)


def run_case(case: Case, load: float, session: Session, entrants: Sequence[Bound]) -> list[dict[str, Any]]:
    """A row per policy: its parameters, misses by seed, and what else is shown."""
    world = case.scenario.at_rate(load * case.unit)
    tuned = resolve(entrants, world, session.crew)
    cells = [Cell(e.label, e.policy, e.scenario, seed) for e in tuned for seed in session.seeds]
    factors = [{"case": case.name, "load": load, "parameters": e.policy.text} for e in tuned for _ in session.seeds]
    found = session.runs(cells, f"{case.name}, load {load:g}", factors)
    rows, n = [], len(session.seeds)
    for row, entrant in enumerate(tuned):
        runs = [outcome.summary for outcome in found[row * n : (row + 1) * n]]
        rows.append(
            {
                "case": case.name,
                "load": load,
                "rate": world.workload.mean_rate,
                "policy": entrant.label,
                "parameters": entrant.policy.text,
                "misses": np.array([1.0 - run["slo_attainment"] for run in runs]),
                "goodput": interval([run["request_goodput"] for run in runs]),
                "p99": interval([run["p99_e2el_ms"] / 1000.0 for run in runs]),
                "longest_wait": interval([run["longest_wait_ms"] / 1000.0 for run in runs]),
                "jain": interval([run["jain_index"] for run in runs]),
                "worst_bin": interval([run["worst_bin_miss_rate"] for run in runs]),
            }
        )
    return rows


def strata_of(rows: Sequence[Mapping[str, Any]], challenger: str) -> list[Stratum]:
    """Strata of the rows, in order."""
    keys = list(dict.fromkeys((row["case"], row["load"]) for row in rows))
    strata = []
    for case, load in keys:
        here = {row["policy"]: row["misses"] for row in rows if (row["case"], row["load"]) == (case, load)}
        strata.append(Stratum(case, load, here[challenger], {k: v for k, v in here.items() if k != challenger}))
    return strata


def by_load(strata: Sequence[Stratum], rows: Sequence[Mapping[str, Any]], challenger: str) -> Table:
    """A row per case and load: the challenger, the best of the papers, the best of all, and who loses."""
    known = {(row["case"], row["load"], row["policy"]): row for row in rows}
    lines_ = []
    for s in strata:
        paper, best = s.best(PAPERS), s.best()
        difference = interval(list(s.challenger - s.rivals[best]))
        own, other = known[s.case, s.load, challenger], known[s.case, s.load, best]
        lines_.append(
            {
                "case": s.case,
                "load": s.load,
                "own": interval(list(s.challenger)),
                "paper": interval(list(s.rivals[paper])),
                "paper_name": paper.split(":")[0],
                "best": interval(list(s.rivals[best])),
                "best_name": other["parameters"],
                "difference": difference,
                "verdict": verdict(difference),
                "goodput": own["goodput"].mean / max(other["goodput"].mean, 1e-12) - 1.0,
                "p99": own["p99"].mean / other["p99"].mean - 1.0,
                "longest_wait": own["longest_wait"].mean,
                "best_longest_wait": other["longest_wait"].mean,
                "jain": own["jain"].mean,
                "best_jain": other["jain"].mean,
                "worst_bin": own["worst_bin"].mean,
                "best_worst_bin": other["worst_bin"].mean,
            }
        )
    columns = [
        Column("case", "case"),
        Column("load", "load", digits=1),
        Column("own", challenger, "missed, %", 1, 100.0),
        Column("paper", "best of three", "missed, %", 1, 100.0),
        Column("paper_name", "which"),
        Column("best", "best of all", "missed, %", 1, 100.0),
        Column("best_name", "which"),
        Column("difference", "difference", "points", 1, 100.0, signed=True),
        Column("verdict", ""),
        Column("goodput", "goodput", "%", 1, 100.0, signed=True),
        Column("p99", "p99 E2E", "%", 0, 100.0, signed=True),
        Column("longest_wait", "longest", "wait, s", 0),
        Column("best_longest_wait", "(best's)", "s", 0),
        Column("jain", "Jain", digits=2),
        Column("best_jain", "(best's)", digits=2),
        Column("worst_bin", "worst bin", "missed, %", 0, 100.0),
        Column("best_worst_bin", "(best's)", "%", 0, 100.0),
    ]
    note = (
        "difference, goodput, p99: against the best of all, chosen per case and load in hindsight. LOSS and win: the "
        "95 % interval of the difference, paired by seed, excludes 0."
    )
    return Table("by_load", "Misses by case and load", columns, lines_, note)


def verdict(difference: Interval) -> str:
    """Win, LOSS, or nothing that the seeds can tell."""
    if not difference.excludes_zero:
        return ""
    return "win" if difference.mean < 0 else "LOSS"


def bars(strata: Sequence[Stratum], goodputs: Sequence[float], rng: np.random.Generator) -> Table:
    """The announced bars, with what was found."""
    lines_: list[dict[str, Any]] = []
    groups = {"best of static, dynamic, multibin": (PAPERS, 0.5), "best of all, per load in hindsight": (None, 0.2)}
    for title, (names, bar) in groups.items():
        low, high = DISCERNING
        counted = [s for s in strata if low <= float(s.rivals[s.best(names)].mean()) <= high]
        pairs = reductions(counted, names)
        less, chance = estimate(pairs, fewer, rng), estimate(pairs, improvement, rng)
        worse = sum(verdict(interval(list(s.challenger - s.rivals[s.best(names)]))) == "LOSS" for s in strata)
        found = {"rival": title, "strata": less.strata, "bar": bar, "worse": worse, "of": len(strata)}
        found |= {"fewer": less.value, "low": less.low, "high": less.high, "met": "yes" if less.low >= bar else "NO"}
        lines_.append(found | {"chance": chance.value, "chance_low": chance.low, "chance_high": chance.high})
    columns = [
        Column("rival", "against"),
        Column("strata", "loads", "counted", 0),
        Column("fewer", "fewer misses", "IQM, %", 1, 100.0, signed=True),
        Column("low", "95 %", "from", 1, 100.0, signed=True),
        Column("high", "interval", "to", 1, 100.0, signed=True),
        Column("bar", "bar", "%", 0, 100.0),
        Column("met", "met by", "all of it"),
        Column("chance", "P(better)", "", 2),
        Column("chance_low", "95 %", "from", 2),
        Column("chance_high", "interval", "to", 2),
        Column("worse", "LOSSES", "", 0),
        Column("of", "of", "", 0),
    ]
    least = min(goodputs, default=float("nan"))
    note = (
        f"counted: case-loads where that rival misses {100 * DISCERNING[0]:g} to {100 * DISCERNING[1]:g} %; intervals "
        f"by stratified bootstrap over seeds. Goodput against the best of all is {100 * least:+.1f} % where it is "
        f"worst (bar: -1 %)."
    )
    return Table("bars", "The bars", columns, lines_, note)


def find(session: Session) -> Findings:
    """Tune, run, judge."""
    options = session.options
    entrants = [*parse_list(options.challenger), *parse_list(",".join(PAPERS)), *parse_list(options.rivals)]
    challenger = entrants[0].label
    rows: list[dict[str, Any]] = []
    told = []
    for name, words in cases_of(options).items():
        case = case_of(name, words, session)
        told.append({"case": name, "unit_rate": case.unit, **case.scenario.describe()})
        for load in options.loads:
            rows += run_case(case, load, session, entrants)
    strata = strata_of(rows, challenger)
    table = by_load(strata, rows, challenger)
    verdicts = bars(strata, [float(row["goodput"]) for row in table.rows], np.random.default_rng(options.seed))  # type: ignore[arg-type]
    heading = (
        f"{challenger} against {len(entrants) - 1} heuristics, {len(strata)} case-loads x {len(session.seeds)} seeds x "
        f"{options.requests:,} requests; target {FACTOR:g} x the p{100 * QUANTILE:g} of a request served alone; tuned "
        f"on {VALIDATED}"
    )
    drawings = {
        "misses": lambda: miss_figure(strata, challenger, heading),
        "profile": lambda: profile_figure(strata, challenger, heading),
    }
    return Findings(heading, [verdicts, table, all_rows(rows)], drawings, {"cases": told})


def all_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Every policy in every case at every load."""
    columns = [
        *(Column("case", "case"), Column("load", "load", digits=1), Column("rate", "rate", "req/s", 3)),
        *(Column("parameters", "policy"), Column("missed", "missed", "%", 1, 100.0)),
        *(
            Column("p99", "p99 E2E", "s", 1),
            Column("jain", "Jain", "", 2),
            Column("worst_bin", "worst bin", "%", 0, 100.0),
        ),
    ]
    found = [{**row, "missed": interval(list(row["misses"]))} for row in rows]
    return Table("policies", "All policies", columns, [{c.key: row[c.key] for c in columns} for row in found])


def miss_figure(strata: Sequence[Stratum], challenger: str, heading: str) -> Any:
    """Misses over load, a panel per case."""
    panels = []
    for case in dict.fromkeys(s.case for s in strata):
        here = [s for s in strata if s.case == case]
        loads = [s.load for s in here]
        drawn = [
            Series(challenger, loads, [interval(list(s.challenger)) for s in here], 1),
            Series("best of three papers", loads, [interval(list(s.rivals[s.best(PAPERS)])) for s in here], 0),
            Series("best of all heuristics", loads, [interval(list(s.rivals[s.best()])) for s in here], 7),
        ]
        panels.append(Panel(case, "load", "missed, %", drawn, factor=100.0))
    return lines("Misses by load", heading, panels, columns=2, height=2.6)


def profile_figure(strata: Sequence[Stratum], challenger: str, heading: str) -> Any:
    """Share of runs with at most so many misses."""
    grid = np.linspace(0.0, 0.6, 61)
    members = {challenger: [s.challenger for s in strata]}
    members |= {"best of three papers": [s.rivals[s.best(PAPERS)] for s in strata]}
    members |= {"best of all heuristics": [s.rivals[s.best()] for s in strata]}
    drawn = [
        Series(name, (100 * grid).tolist(), [Interval(float(v), None) for v in profile(runs, grid)], colour)
        for (name, runs), colour in zip(members.items(), (1, 0, 7), strict=True)
    ]
    panel = Panel("", "misses at most, %", "share of runs, %", drawn, factor=100.0, share=True)
    return lines("Performance profile", heading, [panel], columns=1, height=4.0)


EXPERIMENT = Experiment(
    "benchmark.py",
    "The learned scheduler against the tuned heuristics on held-out cases.",
    add_options,
    find,
    plain_parser,
)
