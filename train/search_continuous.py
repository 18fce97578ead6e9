"""Search for the weights of the learned scheduler in the engine `continuous`: ``python train/search_continuous.py``.

Evolution (CMA-ES, the package cma) directly on the misses of long simulated runs, as a log ratio to the best
heuristic's on the same arrivals, over systems and loads drawn anew in every generation.  It starts from a rule: first
come first served up to the controllers' target, late requests up to a fifth of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of train/

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cma
import numpy as np
from numpy.typing import NDArray

from policies import learned
from policies.learned_continuous import FEATURES, shapes
from train.continuous import LOADS, RIVALS, train_courses
from train.courses import TRAINING_SEED
from train.search import CURVE, start_curve
from train.validation import by_load, runs_of, scored

RULE = {"room": 3.0, "first": 0.5, "late": -1.2, "lost": -1.2}
OFFSET, SPREAD = -0.47, 0.3
"""Weights past the hidden layer of the rule, its offset, and the spread of what goes into the hidden units."""


@dataclass(frozen=True)
class Arguments:
    """What a search is made of; every field is a flag."""

    out: str = "runs/search-continuous"  # folder of the run
    start: str = "none"  # or a checkpoint
    seed: int = 0
    generations: int = 150
    population: int = 20
    sigma: float = 0.12  # first step size
    hidden: int = 4
    requests: int = 2_000  # in every run
    pool: int = 3  # arrivals of every system and load
    runs: int = 32  # of the pool, drawn for every generation


def rule(hidden: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """The weights of the rule: what leaves the hidden units is 0."""
    found = {name: np.zeros(shape) for name, shape in shapes(hidden).items()}
    found["features"][:] = SPREAD * np.random.default_rng(seed).standard_normal(found["features"].shape)
    for name, weight in RULE.items():
        found["straight"][FEATURES.index(name)] = weight
    found["offset"][0] = OFFSET
    return found


def arrays_of(x: NDArray[np.float64], hidden: int) -> dict[str, NDArray[np.float64]]:
    """The arrays that ``x`` holds one after the other."""
    found, at = {}, 0
    for name, shape in shapes(hidden).items():
        found[name] = x[at : at + int(np.prod(shape))].reshape(shape)
        at += int(np.prod(shape))
    return found


def packed(x: NDArray[np.float64], hidden: int) -> NDArray[np.float64]:
    """What the compiled network reads."""
    return learned.Checkpoint(arrays_of(x, hidden), {"engine": "continuous"}).packed


def start_of(arguments: Arguments) -> NDArray[np.float64]:
    """All weights, flat, where the search begins."""
    if arguments.start == "none":
        return np.concatenate([array.ravel() for array in rule(arguments.hidden, arguments.seed).values()])
    found = learned.load(arguments.start)
    if found.engine != "continuous" or found.hidden != arguments.hidden:
        raise ValueError(f"{arguments.start}: engine {found.engine}, {found.hidden} hidden units: give one that fits.")
    return found.packed[:-1]


def generations(arguments: Arguments, folder: Path, command: str) -> None:
    """Search, keeping the centre of the search as the result."""
    hidden, courses = arguments.hidden, train_courses()
    seeds = range(TRAINING_SEED + 10, TRAINING_SEED + 10 + arguments.pool)
    pool = runs_of(courses, seeds, arguments.requests, LOADS, RIVALS)
    about = {"popsize": arguments.population, "seed": arguments.seed + 1, "verbose": -9}
    search, rng = cma.CMAEvolutionStrategy(start_of(arguments), arguments.sigma, about), np.random.default_rng(0)
    start_curve(folder / CURVE, 0)
    began = time.monotonic()
    for generation in range(1, arguments.generations + 1):
        chosen = [pool[i] for i in rng.choice(len(pool), min(arguments.runs, len(pool)), replace=False)]
        points = search.ask()
        losses = [scored(chosen, packed(x, hidden)).mean for x in points]
        search.tell(points, losses)
        with (folder / CURVE).open("a", encoding="utf-8") as curve:
            curve.write(f"{generation},{np.mean(losses):.6g},{min(losses):.6g},{search.sigma:.6g}\n")
        left = (time.monotonic() - began) / generation * (arguments.generations - generation)
        print(f"generation {generation}: log ratio {np.mean(losses):+.3f}, {left:.0f} s left", file=sys.stderr)
        if generation % 10 == 0 or generation == arguments.generations:
            trained = {"engine": "continuous", "command": command, "generation": generation}
            trained["arguments"] = dataclasses.asdict(arguments)
            learned.save(folder / "best", arrays_of(search.mean, hidden), trained)
    validated(runs_of(courses, range(2), arguments.requests, LOADS, RIVALS), learned.load(folder / "best").packed)


def validated(runs: Sequence, params: NDArray[np.float64]) -> None:
    """Say how good the weights are on runs that were not trained on."""
    final = scored(runs, params)
    print(f"validation: log ratio {final.mean:+.3f}")
    for load, (misses, best) in by_load(final).items():
        print(f"load {load:g}: {100 * misses:.2f} % missed, {100 * best:.2f} % by the best heuristic of every run")


def main(argv: Sequence[str] | None = None) -> int:
    """Search; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    for field in dataclasses.fields(Arguments):
        kind = {"str": str, "int": int, "float": float}[str(field.type)]
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, help=f"{field.default!r}")
    arguments = Arguments(**vars(parser.parse_args(argv)))
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    words = " ".join(f"--{f.name} {getattr(arguments, f.name)}" for f in dataclasses.fields(Arguments))
    try:
        generations(arguments, folder, f"python train/search_continuous.py {words}")
    except ValueError as error:
        print(f"search_continuous.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
