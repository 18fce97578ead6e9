"""The evolution strategy behind both searches, CMA-ES of the package cma, and the command line around it.

A loss is the score of weights on compiled runs (train.validation).  The state is kept after every generation.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cma
import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.arguments import add_flags, add_resume, command_line, first_line, given_values, setting
from llmsched.train.systems import TRAINING_SEED, TrainingSystem
from llmsched.train.validation import ScoredRun, make_runs, misses_by_load, score_weights

STATE = "resume.pkl"
CURVE = "curve.csv"

SAVE_EVERY = 10
"""Generations between two checkpoints of the search's centre."""

FIRST_SEED = TRAINING_SEED + 10
"""First seed of the arrivals that a search trains on."""


@dataclass(frozen=True)
class SearchSettings:
    """The settings of a search; every field is a flag."""

    out: str = setting("runs/search", "folder of the run")
    start: str = setting("none", "checkpoint to start from, or none")
    seed: int = setting(0, "seed of the search")
    generations: int = setting(600, "generations")
    population: int = setting(24, "weights tried in every generation")
    sigma: float = setting(0.25, "first step size")
    hidden: int = setting(6, "hidden units of the network")
    requests: int = setting(2_000, "requests in every run")
    pool: int = setting(2, "arrival seeds of every system and load")
    runs: int = setting(32, "runs that are drawn from the pool in every generation")
    systems: int = setting(0, "train on the first N systems only; 0: on all")


@dataclass(frozen=True)
class SearchProblem:
    """What is searched, and on which runs."""

    start: NDArray[np.float64]  # (D,) the point where the search begins
    pack: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # the packed weights (P,) that a point (D,) stands for
    systems: Sequence[TrainingSystem]
    loads: Sequence[float]
    rivals: str  # heuristics to compare with, separated by commas
    validation_seeds: range

    @property
    def engine(self) -> str:
        """The engine of the systems, and so of the network."""
        return self.systems[0].engine

    def runs(self, seeds: range, requests: int) -> list[ScoredRun]:
        """The runs with these arrival seeds."""
        return make_runs(self.systems, seeds, requests, self.loads, self.rivals)


def start_curve(path: Path, done: int) -> None:
    """Write the heading of the curve; where the search continues, drop all rows after generation ``done``."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
    kept = [line for line in lines if int(line.split(",")[0]) <= done]
    path.write_text("\n".join(["generation,mean,best,sigma", *kept, ""]), encoding="utf-8")


def load_or_begin(
    settings: SearchSettings, start: NDArray[np.float64], folder: Path
) -> tuple[Any, np.random.Generator, int]:
    """(search, generator that draws the runs, generations done), as kept in ``folder``, or new."""
    if (folder / STATE).is_file():
        return pickle.loads((folder / STATE).read_bytes())
    about = {"popsize": settings.population, "seed": settings.seed + 1, "verbose": -9}
    return cma.CMAEvolutionStrategy(start, settings.sigma, about), np.random.default_rng(settings.seed), 0


def evolve(settings: SearchSettings, problem: SearchProblem, folder: Path, command: str) -> None:
    """Search, keep the state after every generation, and save the centre of the search as ``folder``/best."""
    pool = problem.runs(range(FIRST_SEED, FIRST_SEED + settings.pool), settings.requests)
    search, rng, done = load_or_begin(settings, problem.start, folder)
    layout, about = LAYOUTS[problem.engine], {"engine": problem.engine, "command": command}
    checkpoint.save(folder / "start", layout.unpack(problem.pack(problem.start)), about)
    start_curve(folder / CURVE, done)
    began, first = time.monotonic(), done
    for generation in range(done + 1, settings.generations + 1):
        drawn = [pool[i] for i in rng.choice(len(pool), min(settings.runs, len(pool)), replace=False)]
        points = search.ask()
        losses = [score_weights(drawn, problem.pack(x)).mean for x in points]
        search.tell(points, losses)
        with (folder / CURVE).open("a", encoding="utf-8") as curve:
            curve.write(f"{generation},{np.mean(losses):.6g},{min(losses):.6g},{search.sigma:.6g}\n")
        fresh = folder / (STATE + ".new")
        fresh.write_bytes(pickle.dumps((search, rng, generation)))
        os.replace(fresh, folder / STATE)
        left_s = (time.monotonic() - began) / (generation - first) * (settings.generations - generation)
        line = f"generation {generation}: log ratio {np.mean(losses):+.3f} on average, {min(losses):+.3f} at best"
        print(f"{line}, {left_s:.0f} s left", file=sys.stderr)
        if generation % SAVE_EVERY == 0 or generation == settings.generations:
            trained = {"arguments": dataclasses.asdict(settings), "generation": generation}
            checkpoint.save(folder / "best", layout.unpack(problem.pack(search.mean)), {**about, **trained})
    best = checkpoint.load(folder / "best").packed
    report_validation(problem.runs(problem.validation_seeds, settings.requests), best)


def report_validation(runs: Sequence[ScoredRun], params: NDArray[np.float64]) -> None:
    """Print how good packed weights (P,) are on runs that were not trained on."""
    final = score_weights(runs, params)
    print(f"validation: log ratio {final.mean:+.3f}")
    for load, (misses, best) in misses_by_load(final).items():
        print(f"load {load:g}: {100 * misses:.2f} % missed, {100 * best:.2f} % by the best heuristic of every run")


def run_command(
    argv: Sequence[str] | None,
    program: str,
    about: str | None,
    kind: type[SearchSettings],
    make_problem: Callable[[Any], SearchProblem],
) -> int:
    """The command ``program`` with the flags of ``kind``; returns the exit code."""
    parser = argparse.ArgumentParser(prog=program, description=first_line(about), allow_abbrev=False)
    add_resume(parser)
    add_flags(parser, kind)
    given = given_values(parser.parse_args(argv))
    resume = given.pop("resume")
    settings = kind(**given)
    folder = Path(settings.out)
    config = folder / "config.json"
    if config.exists() and not resume:
        parser.error(f"{folder} holds a run already: give --resume to continue it, or another --out.")
    if resume and not config.exists():
        parser.error(f"{folder} holds no run to continue: drop --resume, or give the --out of a run.")
    if resume:
        settings = kind(**json.loads(config.read_text(encoding="utf-8")))
    try:
        problem = make_problem(settings)
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(dataclasses.asdict(settings), indent=1) + "\n", encoding="utf-8")
        evolve(settings, problem, folder, command_line(program, settings))
    except ValueError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; --resume continues from the last generation", file=sys.stderr)
        return 130
    return 0
