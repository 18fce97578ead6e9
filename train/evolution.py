"""The evolution behind both searches: CMA-ES (the package cma) on the misses of compiled runs, kept after every
generation, and the command line around it."""

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
from llmsched.train.validation import Run, by_load, scored

STATE = "resume.pkl"
CURVE = "curve.csv"


@dataclass(frozen=True)
class Settings:
    """What every search is made of; every field is a flag, with dashes for underscores."""

    out: str = "runs/search"  # folder of the run
    start: str = "none"  # or a checkpoint
    seed: int = 0
    generations: int = 600
    population: int = 24
    sigma: float = 0.25  # first step size
    hidden: int = 6
    requests: int = 2_000  # in every run
    pool: int = 2  # arrivals of every system and load
    runs: int = 32  # of the pool, drawn for every generation
    courses: int = 0  # only the first so many systems; 0: all


@dataclass(frozen=True)
class Problem:
    """A search that begins at ``start`` (D,); ``pack`` gives the packed weights (P,) that a point (D,) stands for."""

    start: NDArray[np.float64]
    pack: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    engine: str
    runs_of: Callable[[range], list[Run]]  # the runs with these seeds
    training: range  # seeds
    validation: range


def start_curve(path: Path, done: int) -> None:
    """Write the heading of the curve, or cut off what comes after generation ``done``, where the search goes on."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
    kept = [line for line in lines if int(line.split(",")[0]) <= done]
    path.write_text("\n".join(["generation,mean,best,sigma", *kept, ""]), encoding="utf-8")


def begun(settings: Settings, start: NDArray[np.float64], folder: Path) -> tuple[Any, np.random.Generator, int]:
    """The search, the generator of its runs and the generations done: as kept in ``folder``, or anew."""
    if (folder / STATE).is_file():
        return pickle.loads((folder / STATE).read_bytes())
    about = {"popsize": settings.population, "seed": settings.seed + 1, "verbose": -9}
    return cma.CMAEvolutionStrategy(start, settings.sigma, about), np.random.default_rng(settings.seed), 0


def evolve(settings: Settings, problem: Problem, folder: Path, command: str) -> None:
    """Search, keeping the state after every generation and the centre of the search as the result."""
    pool = problem.runs_of(problem.training)
    search, rng, done = begun(settings, problem.start, folder)
    layout, about = LAYOUTS[problem.engine], {"engine": problem.engine, "command": command}
    checkpoint.save(folder / "start", layout.unpack(problem.pack(problem.start)), about)
    start_curve(folder / CURVE, done)
    began, first = time.monotonic(), done
    for generation in range(done + 1, settings.generations + 1):
        chosen = [pool[i] for i in rng.choice(len(pool), min(settings.runs, len(pool)), replace=False)]
        points = search.ask()
        losses = [scored(chosen, problem.pack(x)).mean for x in points]
        search.tell(points, losses)
        with (folder / CURVE).open("a", encoding="utf-8") as curve:
            curve.write(f"{generation},{np.mean(losses):.6g},{min(losses):.6g},{search.sigma:.6g}\n")
        fresh = folder / (STATE + ".new")
        fresh.write_bytes(pickle.dumps((search, rng, generation)))
        os.replace(fresh, folder / STATE)
        left = (time.monotonic() - began) / (generation - first) * (settings.generations - generation)
        line = f"generation {generation}: log ratio {np.mean(losses):+.3f} on average, {min(losses):+.3f} at best"
        print(f"{line}, {left:.0f} s left", file=sys.stderr)
        if generation % 10 == 0 or generation == settings.generations:
            trained = {"arguments": dataclasses.asdict(settings), "generation": generation}
            checkpoint.save(folder / "best", layout.unpack(problem.pack(search.mean)), {**about, **trained})
    validated(problem.runs_of(problem.validation), checkpoint.load(folder / "best").packed)


def validated(runs: Sequence[Run], params: NDArray[np.float64]) -> None:
    """Say how good the weights are on runs that were not trained on."""
    final = scored(runs, params)
    print(f"validation: log ratio {final.mean:+.3f}")
    for load, (misses, best) in by_load(final).items():
        print(f"load {load:g}: {100 * misses:.2f} % missed, {100 * best:.2f} % by the best heuristic of every run")


def run(
    argv: Sequence[str] | None, program: str, about: str, kind: type[Settings], problem_of: Callable[[Any], Problem]
) -> int:
    """The command ``program``, whose flags are the fields of ``kind``; the exit code."""
    parser = argparse.ArgumentParser(prog=program, description=about, allow_abbrev=False)
    parser.add_argument("--resume", action="store_true", help="go on in the folder of --out, with its arguments")
    fields = dataclasses.fields(kind)
    for field in fields:
        read = {"str": str, "int": int, "float": float}[str(field.type)]
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=read, default=None, help=f"{field.default!r}")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    resume = given.pop("resume")
    settings = kind(**given)
    folder = Path(settings.out)
    config = folder / "config.json"
    if config.exists() != resume:
        have, remedy = ("no", "drop") if resume else ("a", "give")
        parser.error(f"{folder} holds {have} run: {remedy} --resume.")
    if resume:
        settings = kind(**json.loads(config.read_text(encoding="utf-8")))
    words = " ".join(f"--{field.name.replace('_', '-')} {getattr(settings, field.name)}" for field in fields)
    try:
        problem = problem_of(settings)
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(dataclasses.asdict(settings), indent=1) + "\n", encoding="utf-8")
        evolve(settings, problem, folder, f"python train/{program} {words}")
    except ValueError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; --resume goes on from the last generation", file=sys.stderr)
        return 130
    return 0
