"""Search for the weights of the learned scheduler: ``python train/search.py --out runs/search`` (``--resume`` goes on).

Evolution (CMA-ES, the package cma) directly on what counts: the misses of long simulated runs, as a log ratio to the
best heuristic's on the same arrivals, over systems and loads drawn anew in every generation.  No reward has to be
handed out over time, nothing is discounted, and the simulator makes a run of thousands of requests in milliseconds.
train/ppo.py starts from what comes out.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of train/

import argparse
import dataclasses
import json
import os
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cma
import numpy as np
from numpy.typing import NDArray

from policies import learned
from policies.learned import CHOICE, CONTEXT, DERIVED, GLOBAL, OWN, PER_BIN, SHARED, SIZED
from train.courses import TRAINING_SEED, train_courses
from train.validation import by_load, runs_of, scored

PROGRAM = "search.py"
STATE = "resume.pkl"
CURVE = "curve.csv"

SHARED_USED = ("free", "servers", "busy_min", "busy_mean", "rate_fast", "rate_slow", "oldest_wait")
SHARED_USED += ("waiting_per_server", "in_service")
LARGEST_USED = ("hits_per_time", "due")
CHOICE_USED = ("head_wait", "head_predicted", "batch_time", "late")
CHOICE_USED += tuple(name for name in DERIVED if name != "due_soon")
"""The inputs of the hidden layer that are searched; the weights of the others stay 0."""


@dataclass(frozen=True)
class Arguments:
    """What a search is made of; every field is a flag, with dashes for underscores."""

    out: str = "runs/search"  # folder of the run
    start: str = "none"  # or a checkpoint
    seed: int = 0
    generations: int = 600
    population: int = 24
    sigma: float = 0.25  # first step size
    hidden: int = 6
    frozen: int = 0  # the first so many hidden units keep what goes into them
    courses: int = 0  # only the first so many systems; 0: all
    requests: int = 2_000  # in every run
    pool: int = 2  # arrivals of every system and load
    runs: int = 32  # of the pool, drawn for every generation


def names() -> dict[str, list[str]]:
    """Names of the inputs of the hidden layer and past it."""
    once = [name for name, *_ in GLOBAL]
    choice = [*(name for name, *_ in PER_BIN), *DERIVED]
    context = once + [f"largest {name}" for name in choice] + [f"mean {name}" for name in choice]
    return {"context": context, "choice": choice, "size": list(SIZED)}


def searched(hidden: int, frozen: int = 0) -> NDArray[np.int64]:
    """Places, among all weights in the order of learned.shapes, of those that are searched."""
    known = names()
    assert len(known["context"]) == CONTEXT and len(known["choice"]) == CHOICE and OWN + len(DERIVED) == CHOICE
    context = [known["context"].index(name) for name in (*SHARED_USED, *(f"largest {n}" for n in LARGEST_USED))]
    choice = [len(PER_BIN) + DERIVED.index(n) if n in DERIVED else known["choice"].index(n) for n in CHOICE_USED]
    used = {name: np.zeros(shape, bool) for name, shape in learned.shapes(hidden).items()}
    for name in ("bias", "size", "out", "straight", "wait_offset"):
        used[name][:] = True
    used["context"][:, context] = True
    used["choice"][:, choice] = True
    used["wait_straight"][: SHARED + CHOICE] = True
    for name in ("bias", "context", "choice", "size"):
        used[name][:frozen] = False
    return np.flatnonzero(np.concatenate([used[name].ravel() for name in used]))


def arrays_of(
    x: NDArray[np.float64], hidden: int, start: NDArray[np.float64] | None = None, frozen: int = 0
) -> dict[str, NDArray[np.float64]]:
    """The arrays whose searched weights are ``x`` and whose others are those of ``start`` (all, flat), or 0."""
    flat = np.zeros(sum(int(np.prod(shape)) for shape in learned.shapes(hidden).values()))
    flat = flat if start is None else start.copy()
    flat[searched(hidden, frozen)] = x
    found, at = {}, 0
    for name, shape in learned.shapes(hidden).items():
        found[name] = flat[at : at + int(np.prod(shape))].reshape(shape)
        at += int(np.prod(shape))
    return found


def start_of(arguments: Arguments) -> NDArray[np.float64]:
    """All weights, flat, where the search begins: a checkpoint, or the rule `most requests in time per second`."""
    if arguments.start != "none":
        found = learned.load(arguments.start)
        if found.hidden != arguments.hidden:
            raise ValueError(f"{arguments.start} has {found.hidden} hidden units: give --hidden {found.hidden}.")
        return found.packed[1:]
    start = learned.zeros(arguments.hidden)
    rng = np.random.default_rng(arguments.seed)
    for name in ("bias", "context", "choice", "size"):
        start[name][:] = 0.3 * rng.standard_normal(start[name].shape)
    start["straight"][OWN + 1], start["straight"][OWN + 2] = 2.0, 2.0
    start["straight"][CHOICE + 2], start["straight"][CHOICE + 5] = 1.0, 2.0
    start["wait_offset"][0] = -1.0
    return np.concatenate([array.ravel() for array in start.values()])


def start_curve(path: Path, done: int) -> None:
    """Write the heading of the curve, or cut off what comes after generation ``done``, where the search goes on."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
    kept = [line for line in lines if int(line.split(",")[0]) <= done]
    path.write_text("\n".join(["generation,mean,best,sigma", *kept, ""]), encoding="utf-8")


def generations(arguments: Arguments, folder: Path, command: str) -> None:
    """Search, keeping the state after every generation and the centre of the search as the result."""
    hidden, frozen, start = arguments.hidden, arguments.frozen, start_of(arguments)
    courses = train_courses()[: arguments.courses or None]
    pool = runs_of(courses, range(TRAINING_SEED + 10, TRAINING_SEED + 10 + arguments.pool), arguments.requests)
    if (folder / STATE).is_file():
        search, rng, done = pickle.loads((folder / STATE).read_bytes())
    else:
        about = {"popsize": arguments.population, "seed": arguments.seed + 1, "verbose": -9}
        search = cma.CMAEvolutionStrategy(start[searched(hidden, frozen)], arguments.sigma, about)
        rng, done = np.random.default_rng(arguments.seed), 0
    start_curve(folder / CURVE, done)
    began, first = time.monotonic(), done
    for generation in range(done, arguments.generations):
        chosen = [pool[i] for i in rng.choice(len(pool), min(arguments.runs, len(pool)), replace=False)]
        points = search.ask()
        losses = [
            scored(chosen, learned.Checkpoint(arrays_of(x, hidden, start, frozen), {}).packed).mean for x in points
        ]
        search.tell(points, losses)
        with (folder / CURVE).open("a", encoding="utf-8") as curve:
            curve.write(f"{generation + 1},{np.mean(losses):.6g},{min(losses):.6g},{search.sigma:.6g}\n")
        fresh = folder / (STATE + ".new")
        fresh.write_bytes(pickle.dumps((search, rng, generation + 1)))
        os.replace(fresh, folder / STATE)
        left = (time.monotonic() - began) / (generation + 1 - first) * (arguments.generations - generation - 1)
        line = f"generation {generation + 1}: log ratio {np.mean(losses):+.3f} on average, {min(losses):+.3f} at best"
        print(f"{line}, {left:.0f} s left", file=sys.stderr)
        if (generation + 1) % 10 == 0 or generation + 1 == arguments.generations:
            trained = {"command": command, "arguments": dataclasses.asdict(arguments), "generation": generation + 1}
            learned.save(folder / "best", arrays_of(search.mean, hidden, start, frozen), trained)
    final = scored(runs_of(courses, range(1), arguments.requests), learned.load(folder / "best").packed)
    print(f"validation: log ratio {final.mean:+.3f}")
    for load, (misses, best) in by_load(final).items():
        print(f"load {load:g}: {100 * misses:.2f} % missed, {100 * best:.2f} % by the best heuristic of every run")


def main(argv: Sequence[str] | None = None) -> int:
    """Search; the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--resume", action="store_true", help="go on in the folder of --out, with its arguments")
    for field in dataclasses.fields(Arguments):
        kind = {"str": str, "int": int, "float": float}[str(field.type)]
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=None, help=f"{field.default!r}")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    resume = given.pop("resume")
    arguments = Arguments(**given)
    folder = Path(arguments.out)
    config = folder / "config.json"
    if config.exists() != resume:
        parser.error(
            f"{folder} holds {'a' if config.exists() else 'no'} run: {'give' if not resume else 'drop'} --resume."
        )
    if resume:
        arguments = Arguments(**json.loads(config.read_text(encoding="utf-8")))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(dataclasses.asdict(arguments), indent=1) + "\n", encoding="utf-8")
    words = " ".join(f"--{f.name} {getattr(arguments, f.name)}" for f in dataclasses.fields(Arguments))
    try:
        generations(arguments, folder, f"python train/search.py {words.replace('_', '-')}")
    except ValueError as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; --resume goes on from the last generation", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
