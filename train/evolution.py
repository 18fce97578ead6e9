"""The evolution strategy behind both searches, CMA-ES of the package cma, and the command line around it.

A loss is the score of weights on compiled runs (train.validation).  The state is kept after every generation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cma
import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.arguments import (
    TYPES,
    add_flags,
    add_resume,
    command_line,
    first_line,
    flag,
    given_values,
    setting,
)
from llmsched.train.systems import TRAINING_SEED, TrainingSystem
from llmsched.train.validation import Budgets, ScoredRun, best_budgets, make_runs, misses_by_load, score_weights
from llmsched_env.commands.parser import OneLineParser
from llmsched_env.commands.process import INTERRUPTED, run_guarded, was_interrupted
from llmsched_env.commands.terminal import say, show
from llmsched_env.files.arrays import read_arrays
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.writing import check_folder, make_folder, write_bytes, write_text

STATE = "losses.npz"
OLD_STATE = "resume.pkl"
"""The state of earlier versions, which would run code when it is read."""

MOST_BYTES = 2**28
"""Most bytes of a state."""

CURVE = "curve.csv"

FREE = ("out", "generations")
"""Settings that may change between two starts: they do not decide what a loss is."""

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

    def budgets(self, seeds: range, requests: int) -> Budgets | None:
        """Tokens of an iteration that the weights at the start would choose; None in the engine `batch`."""
        if self.engine != "continuous":
            return None
        return best_budgets(self.systems, seeds, requests, self.loads, self.pack(self.start))

    def runs(self, seeds: range, requests: int, budgets: Budgets | None) -> list[ScoredRun]:
        """The runs with these arrival seeds."""
        return make_runs(self.systems, seeds, requests, self.loads, self.rivals, budgets)


LossesOf = Callable[[list[int], Sequence[NDArray[np.float64]]], Sequence[float]]
"""The losses of points (D,) on the runs at these places of the pool."""


class Search:
    """CMA-ES, which tells everything that it has done by its losses: the same losses lead to the same state.

    So what is kept of a search is an array of numbers, and nothing has to be unpickled to continue it.
    """

    def __init__(self, settings: SearchSettings, start: NDArray[np.float64], pool: int) -> None:
        about = {"popsize": settings.population, "seed": settings.seed + 1, "verbose": -9}
        self.strategy = cma.CMAEvolutionStrategy(start, settings.sigma, about)
        self.losses: list[list[float]] = []  # a row per generation
        self._settings, self._pool = settings, pool
        self._rng = np.random.default_rng(settings.seed)

    def next_generation(self) -> tuple[list[int], list[NDArray[np.float64]]]:
        """The places in the pool of the runs that are drawn, and the points (D,) to try."""
        count = min(self._settings.runs, self._pool)
        drawn = self._rng.choice(self._pool, count, replace=False).tolist()
        return drawn, self.strategy.ask()

    def tell(self, points: Sequence[NDArray[np.float64]], losses: Sequence[float]) -> None:
        """The losses of these points."""
        self.strategy.tell(points, losses)
        self.losses.append([float(loss) for loss in losses])

    def generations(
        self, kept: NDArray[np.float64], losses_of: LossesOf, go_on: Callable[[int], bool]
    ) -> Iterator[tuple[int, Sequence[float]]]:
        """(number, losses) of every generation, from 1 on, while ``go_on(number)``.

        The losses of those that are ``kept`` (G, population) are told again, those of the others are computed.
        """
        number = 1
        while go_on(number):
            drawn, points = self.next_generation()
            losses = list(kept[number - 1]) if number <= len(kept) else losses_of(drawn, points)
            self.tell(points, losses)
            yield number, losses
            number += 1

    @property
    def curve(self) -> str:
        """The row of the curve for the last generation."""
        losses = self.losses[-1]
        return f"{len(self.losses)},{np.mean(losses):.6g},{min(losses):.6g},{self.strategy.sigma:.6g}"


def read_losses(file: Path, settings: SearchSettings) -> NDArray[np.float64]:
    """The losses (G, population) of an earlier start; `ValueError` in one line where ``file`` is not that."""
    if not file.exists():
        if file.with_name(OLD_STATE).exists():
            raise ValueError(f"{file.with_name(OLD_STATE)} is of an earlier version and is not read: begin anew.")
        return np.zeros((0, settings.population))
    try:
        arrays = read_arrays(file, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"{file}: {error}: delete it to begin anew.") from None
    found = arrays.get("losses")
    wanted = f"losses of {settings.population} points a generation"
    if found is None or found.dtype != np.float64 or found.ndim != 2 or found.shape[1] != settings.population:
        raise ValueError(f"{file}: it does not hold {wanted}: delete it to begin anew.")
    if not np.isfinite(found).all() or len(found) > settings.generations:
        raise ValueError(f"{file}: it does not hold finite {wanted}, at most {settings.generations} generations.")
    if "settings" in arrays and not np.array_equal(arrays["settings"], digest_of(settings)):
        raise ValueError(
            f"{file}: the settings beside it are not those that its losses were made with: only generations may "
            f"change. Undo the change, or begin a new run with another --out."
        )
    return found


def digest_of(settings: SearchSettings) -> NDArray[np.uint8]:
    """SHA-256 (32,) of the settings that decide what the losses of a generation are."""
    deciding = {name: value for name, value in dataclasses.asdict(settings).items() if name not in FREE}
    found = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).digest()
    return np.frombuffer(found, np.uint8)


def evolve(settings: SearchSettings, problem: SearchProblem, folder: Path, command: str) -> None:
    """Search, keep the losses of every generation, and save the centre of the search as ``folder``/best."""
    kept = read_losses(folder / STATE, settings)
    seeds = range(FIRST_SEED, FIRST_SEED + settings.pool)
    budgets = problem.budgets(seeds, settings.requests)
    pool = problem.runs(seeds, settings.requests, budgets)
    search, layout = Search(settings, problem.start, len(pool)), LAYOUTS[problem.engine]
    about = {"engine": problem.engine, "command": command}
    checkpoint.save(folder / "start", layout.unpack(problem.pack(problem.start)), about)
    rows, began, centre = ["generation,mean,best,sigma"], time.monotonic(), None

    def losses_of(drawn: list[int], points: Sequence[NDArray[np.float64]]) -> list[float]:
        """The mean log ratio of every point on the drawn runs."""
        runs = [pool[place] for place in drawn]
        return [score_weights(runs, problem.pack(x)).mean for x in points]

    for generation, losses in search.generations(kept, losses_of, lambda number: number <= settings.generations):
        rows.append(search.curve)
        if generation % SAVE_EVERY == 0 or generation == settings.generations:
            trained = {"arguments": dataclasses.asdict(settings), "generation": generation}
            centre = layout.unpack(problem.pack(search.strategy.mean)), {**about, **trained}
        if generation < len(kept):
            continue
        write_state(folder, settings, search, rows)
        if centre is not None:  # after a restart too: a kill may have come between the two files
            checkpoint.save(folder / "best", *centre)
            centre = None
        say_generation(generation, losses, (time.monotonic() - began) / (generation - len(kept) or 1), settings)
    best = checkpoint.load(folder / "best").packed
    report_validation(problem.runs(problem.validation_seeds, settings.requests, budgets), best)


def write_state(folder: Path, settings: SearchSettings, search: Search, rows: Sequence[str]) -> None:
    """Keep the losses and what they depend on, then the curve, which follows from them."""
    content = io.BytesIO()
    np.savez(content, losses=np.array(search.losses), settings=digest_of(settings))
    write_bytes(folder / STATE, content.getvalue())
    write_text(folder / CURVE, "\n".join([*rows, ""]))


def say_generation(generation: int, losses: Sequence[float], seconds: float, settings: SearchSettings) -> None:
    """A line on standard error; ``seconds``: what a generation takes."""
    left_s = seconds * (settings.generations - generation)
    line = f"generation {generation}: log ratio {np.mean(losses):+.3f} on average, {min(losses):+.3f} at best"
    say(f"{line}, {left_s:.0f} s left")


def report_validation(runs: Sequence[ScoredRun], params: NDArray[np.float64]) -> None:
    """Print how good packed weights (P,) are on runs that were not trained on."""
    final = score_weights(runs, params)
    show(f"validation: log ratio {final.mean:+.3f}")
    for load, (misses, best) in misses_by_load(final).items():
        show(f"load {load:g}: {100 * misses:.2f} % missed, {100 * best:.2f} % by the best heuristic of every run")


MOST = {
    "generations": 10**6,
    "population": 10**5,
    "hidden": 1_000,
    "requests": 10**7,
    "pool": 10**4,
    "runs": 10**6,
    "systems": 10**6,
    "frozen": 1_000,
    "seed": 2**31,
}
"""Largest value of every whole number: a search beyond it would not end, or find no memory."""

LEAST = {"seed": 0, "systems": 0, "frozen": 0, "population": 4}
"""Least value of a whole number where that is not 1."""


def check_settings(settings: SearchSettings) -> None:
    """`ValueError` in one line where a number is outside its bounds."""
    for name, value in dataclasses.asdict(settings).items():
        if isinstance(value, int) and not LEAST.get(name, 1) <= value <= MOST[name]:
            low, high = LEAST.get(name, 1), MOST[name]
            raise ValueError(f"{flag(name)} {value} is not allowed: give a whole number from {low} to {high:,}.")
        if isinstance(value, float) and not 0.0 < value <= 1e3:
            raise ValueError(f"{flag(name)} {value} is not allowed: give a number above 0, at most 1000.")


def read_settings(parser: OneLineParser, config: Path, kind: type[SearchSettings]) -> SearchSettings:
    """The settings that a run was started with; exit 2 with one line where the file is damaged."""
    try:
        found = read_json(config)
        known = {field.name: TYPES[str(field.type)] for field in dataclasses.fields(kind)}
        if not isinstance(found, dict) or found.keys() != known.keys():
            raise CannotReadError(f"it does not hold {', '.join(known)}")
        for name, value in found.items():
            if isinstance(value, bool) or not isinstance(
                value, (known[name], int) if known[name] is float else known[name]
            ):
                raise CannotReadError(f"{name}={value!r} is no {known[name].__name__}")
    except CannotReadError as error:
        parser.error(f"{config}: {error}: write it again, or begin a new run with another --out.")
    return kind(**{name: known[name](value) for name, value in found.items()})


def run_command(
    argv: Sequence[str] | None,
    program: str,
    about: str | None,
    kind: type[SearchSettings],
    make_problem: Callable[[Any], SearchProblem],
) -> int:
    """The command ``program`` with the flags of ``kind``; returns the exit code."""
    parser = OneLineParser(prog=program, description=first_line(about), allow_abbrev=False)
    add_resume(parser)
    add_flags(parser, kind)
    return run_guarded(program, lambda words: search_from(parser, words, kind, make_problem), argv)


def search_from(
    parser: OneLineParser,
    argv: Sequence[str],
    kind: type[SearchSettings],
    make_problem: Callable[[Any], SearchProblem],
) -> int:
    """Search as the arguments ``argv`` say; returns the exit code."""
    given = given_values(parser.read(argv))
    resume = given.pop("resume")
    settings = kind(**given)
    try:
        check_settings(settings)
        check_folder(Path(settings.out), "--out")
    except ValueError as error:
        parser.error(str(error))
    folder = Path(settings.out)
    config = folder / "config.json"
    if config.exists() and not resume:
        parser.error(f"{folder} holds a run already: give --resume to continue it, or another --out.")
    if resume and not config.exists():
        parser.error(f"{folder} holds no run to continue: drop --resume, or give the --out of a run.")
    if resume:
        settings = read_settings(parser, config, kind)
    try:
        check_settings(settings)
        problem = make_problem(settings)
        make_folder(folder)
        if not resume:
            write_text(config, json.dumps(dataclasses.asdict(settings), indent=1) + "\n")
        evolve(settings, problem, folder, command_line(parser.prog, settings))
    except ValueError as error:
        parser.error(str(error))
    except (KeyboardInterrupt, SystemError) as error:
        if not was_interrupted(error):
            raise
        say(f"{parser.prog}: interrupted; --resume continues from the last generation")
        return INTERRUPTED
    return 0
