"""Retune the shipped network on your own trace and system: ``python train/retune.py --workload my.csv --minutes 1``.

The weights of the policy `network` are searched further, by the evolution strategy of train/search.py, on the first
half of a trace, and judged on ten later parts of it.  The generic weights are kept unless the interval says that the
new ones miss fewer requests.  OUT/network.npz and .json hold what was kept, for `network:path=OUT/network`.  The same
command with the same --out goes on where it was stopped.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    if not __package__:  # run as a script: import from the checkout, not from train/
        sys.path[0] = str(Path(__file__).resolve().parents[1])
    from llmsched_env.commands.needs import need

    need("retune.py", "cma")

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.cli.findings import Findings
from llmsched.eval.cli.frame import Experiment, Session, run_options_parser
from llmsched.eval.cli.options import add_scenario_options
from llmsched.eval.cli.readers import number
from llmsched.eval.report.textual import heading
from llmsched.eval.runs.cache_key import source_version, trace_digest
from llmsched.eval.runs.tune import at_load, resolve
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import Bound, get
from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.evolution import MOST, SearchSettings
from llmsched.train.retuning.evolving import Budget, claim, evolve
from llmsched.train.retuning.judging import (
    FACTORS,
    GENERIC,
    RETUNED,
    Verdict,
    all_table,
    held_out_cells,
    parts_table,
    verdict,
)
from llmsched.train.retuning.losses import Losses, packing, searched, training_runs
from llmsched.train.retuning.parts import Split, as_trace, split
from llmsched.train.retuning.queues import OF_NETWORK, Overdue, choose_overdue, with_overdue
from llmsched_env.commands.parser import OneLineParser
from llmsched_env.commands.process import run_and_exit
from llmsched_env.workload.traces import Trace

PROGRAM = "retune.py"
Weights = tuple[NDArray[np.float64], Overdue | None]
"""Packed weights (P,), and the factors that go with them; none: those that the network sets."""

POPULATION, SIGMA, RUNS, SEEDS = 16, 0.05, 8, 2
"""Weights tried in a generation, first step size, runs drawn in a generation, seeds of every window."""


def parser_for(program: str, about: str) -> OneLineParser:
    """A parser with the options of runs and of scenarios."""
    parser = run_options_parser(program, about)
    add_scenario_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command itself."""
    add = parser.add_argument_group("retuning").add_argument
    add(
        "--minutes",
        type=number(0, 1e5, above=True),
        default=1.0,
        metavar="M",
        help="Time of the search, in all its starts together. (default: 1)",
    )
    add(
        "--generations",
        type=number(1, MOST["generations"], whole=True),
        metavar="N",
        help="End the search after N generations too: the same N, the same weights. (default: the time decides)",
    )
    add("--start", metavar="FILE", help="The checkpoint that is retuned. (default: the shipped one of the engine)")
    add(
        "--sigma",
        type=number(0, 10, above=True),
        default=SIGMA,
        metavar="X",
        help=f"First step size. (default: {SIGMA})",
    )
    parser.set_defaults(out="runs/retune")


@dataclass(frozen=True)
class Task:
    """What is retuned: the system and the trace as a scenario, its parts, the generic weights."""

    scenario: Scenario
    split: Split
    generic: checkpoint.Checkpoint

    def of_part(self, place: int) -> Scenario:
        """The scenario of a held-out part."""
        return replace(self.scenario, workload=self.split.held_out[place].workload, load=None)


def prepare(session: Session) -> Task:
    """The task that the options ask for; ``ValueError`` where there is none."""
    options = session.options
    if session.routings:
        raise ValueError("--routing: name one rule of the engine; weights are retuned under one.")
    scenario = scenario_from(options)
    generic = checkpoint.load(options.start) if options.start else checkpoint.load_shipped(scenario.config.engine)
    if generic.engine != scenario.config.engine:
        raise ValueError(
            f"{options.start}: trained for the engine {generic.engine!r}, but this run is of "
            f"{scenario.config.engine!r}: give a checkpoint for {scenario.config.engine!r}."
        )
    as_trace(scenario.workload, options.seed)  # refuses before the runs that choose a rate
    if scenario.load is not None:
        scenario, _ = at_load(scenario, session.crew)
    scenario = resolve([get("network").bind()], scenario, session.crew)[0].scenario
    workload = as_trace(scenario.workload, options.seed)
    return Task(replace(scenario, workload=workload), split(workload), generic)


def settings_of(options: argparse.Namespace) -> SearchSettings:
    """The settings of the search."""
    return SearchSettings(
        out=str(options.out),
        seed=options.seed,
        generations=options.generations or MOST["generations"],
        population=POPULATION,
        sigma=options.sigma,
        runs=RUNS,
    )


@dataclass(frozen=True)
class Found:
    """What a search came to: by label weights with the factors that were chosen for them, and generations."""

    candidates: Mapping[str, Weights]
    generations: int


def search(session: Session, task: Task, settings: SearchSettings) -> Found:
    """The search in the folder of --out: the weights, then the factors of the overdue queue (engine `batch`) for the
    generic weights and for the new ones."""
    options, folder = session.options, Path(session.options.out)
    config, engine = task.scenario.config, task.generic.engine
    claim(folder, facts(task, settings))
    generic, overdue = task.generic.packed, task.generic.overdue
    places = searched(engine, generic)
    pack = packing(places, generic)
    seeds = range(options.seed, options.seed + SEEDS)
    runs = training_runs(config, task.split.trained, seeds, generic, with_overdue(overdue))
    if not any(run.best for run in runs):
        session.notes.append(
            "The generic weights miss no request of the first half: nothing was searched. Give a higher --rate-scale "
            "or --load, or a tighter --goodput."
        )
        return Found({RETUNED: (generic, overdue)}, 0)
    losses = Losses(config, runs, pack, options.jobs, with_overdue(overdue))
    budget = Budget(60.0 * options.minutes, settings.generations)
    centre, generations = evolve(settings, generic[places], len(runs), losses, budget, folder)
    found = {RETUNED: (pack(centre), overdue)}
    if engine == "batch":
        for label, packed in ((FACTORS, generic), (RETUNED, pack(centre))):
            found[label] = (packed, choose_overdue(config, runs, packed, overdue, options.jobs))
        if found[FACTORS][1] == (overdue or OF_NETWORK):
            del found[FACTORS]
    return Found({label: found[label] for label in (FACTORS, RETUNED) if label in found}, generations)


def facts(task: Task, settings: SearchSettings) -> Mapping[str, Any]:
    """What the losses of a search depend on."""
    trace = task.scenario.workload.origin
    assert isinstance(trace, Trace)
    return {
        "trace": trace_digest(trace),
        "system": task.scenario.describe(),
        "start": task.generic.about["sha256"],
        "seed": settings.seed,
        "sigma": settings.sigma,
        "population": settings.population,
        "source": source_version(),
    }


def judge(session: Session, task: Task, files: Mapping[str, Path]) -> Verdict:
    """The candidates in ``files``, by label, beside the generic weights on the held-out parts."""
    scenarios = [task.of_part(place) for place in range(len(task.split.held_out))]
    policies = {GENERIC: bound_to(session.options.start)} | {label: bound_to(str(files[label])) for label in files}
    cells = held_out_cells(scenarios, policies, list(session.seeds))
    each = len(session.seeds) * len(policies)
    factors = [{"part": 1 + place // each} for place in range(len(cells))]
    return verdict(list(policies), session.runs(cells, "judging", factors), len(scenarios))


def bound_to(path: str | None) -> Bound:
    """The policy `network` with a checkpoint, or with the shipped weights."""
    return get("network").bind({} if path is None else {"path": path})


def find(session: Session) -> Findings:
    """Search, judge, keep."""
    folder, task, settings = Path(session.options.out), prepare(session), settings_of(session.options)
    found = search(session, task, settings)
    about = {
        "engine": task.generic.engine,
        "command": f"python train/{PROGRAM}",
        **facts(task, settings),
        "generations": found.generations,
    }
    layout, generic = LAYOUTS[task.generic.engine], (task.generic.packed, task.generic.overdue)
    made = found.candidates

    def write(name: str, weights: Weights, **more: Any) -> Path:
        """A checkpoint of packed weights (P,) and their factors, in the folder."""
        packed, overdue = weights
        checkpoint.save(folder / name, layout.unpack(packed), {**about, **of_json(overdue), **more})
        return folder / name

    files = {label: write("candidate" if label == RETUNED else label, weights) for label, weights in made.items()}
    judged = judge(session, task, files)
    outcome = {"retuned": judged.kept is not None, **judged.numbers}
    write("network", generic if judged.kept is None else made[judged.labels[judged.kept]], **outcome)
    train, held = task.split.trained, task.split.held_out
    size = {"rows": held[-1].last, "rate": task.scenario.workload.mean_rate, "generations": found.generations}
    return Findings(
        heading=heading(task.scenario, session.seeds),
        tables=[all_table(judged), parts_table(judged, held)],
        about={**outcome, **size, **of_json(made[judged.labels[judged.shown]][1]), "system": task.scenario.describe()},
        notes=[
            f"Searched on rows 1 to {train[-1].last:,} ({found.generations} generations), judged on rows "
            f"{held[0].first + 1:,} to {held[-1].last:,}, each row as it comes in the trace; the interval says nothing "
            f"about another trace.",
            *in_words(made, task.generic.overdue),
        ],
        answer=[answer(judged, folder)],
    )


def of_json(overdue: Overdue | None) -> dict[str, list[float]]:
    """The factors as a checkpoint and the summary carry them."""
    return {} if overdue is None else {"overdue_factors": list(overdue)}


def in_words(made: Mapping[str, Weights], generic: Overdue | None) -> list[str]:
    """A note on the factors that were chosen, if any were."""
    chosen = {GENERIC: generic or OF_NETWORK} | {label: pair for label, (_, pair) in made.items() if pair is not None}
    if len(chosen) == 1:
        return []
    pairs = ", ".join(f"{label} {factor:g} and {share:g}" for label, (factor, share) in chosen.items())
    return [f"Overdue factor and overdue batch factor, chosen on the rows of the search: {pairs}."]


KEPT = {FACTORS: "The generic weights with other factors are kept", RETUNED: "The retuned weights are kept"}


def answer(judged: Verdict, folder: Path) -> str:
    """The outcome in words, and how to use it."""
    change = judged.difference(judged.shown).times(100.0)
    text = f"{change.mean:+.2f} ± {change.half or 0.0:.2f} points of missed requests on held-out parts"
    use = f"Use: --policies network:path={shlex.quote(str(folder / 'network'))}"
    if judged.kept is not None:
        return f"{KEPT[judged.labels[judged.kept]]}: {text}. {use}"
    label = judged.labels[judged.shown]
    return f"The generic weights are kept: {label} is the best candidate and not better by the interval ({text}). {use}"


EXPERIMENT = Experiment(
    PROGRAM, "Retune the shipped network on your own trace and system.", add_options, find, parser_for, room="train"
)
main = EXPERIMENT.main

if __name__ == "__main__":
    run_and_exit(main)
