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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.continuous_layout import FEATURES
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train import evolution
from llmsched.train.evolution import Problem, Settings
from llmsched.train.systems import TRAINING_SEED
from llmsched.train.systems_continuous import LOADS, RIVALS, train_courses
from llmsched.train.validation import runs_of

RULE = {"room": 3.0, "first": 0.5, "late": -1.2, "lost": -1.2}
OFFSET, SPREAD = -0.47, 0.3
"""Weights past the hidden layer of the rule, its offset, and the spread of what goes into the hidden units."""


@dataclass(frozen=True)
class Arguments(Settings):
    """What a search is made of, with defaults of its own."""

    out: str = "runs/search-continuous"
    generations: int = 150
    population: int = 20
    sigma: float = 0.12
    hidden: int = 4
    pool: int = 3


def rule(hidden: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """The weights of the rule: what leaves the hidden units is 0."""
    found = LAYOUTS["continuous"].zeros(hidden)
    found["features"][:] = SPREAD * np.random.default_rng(seed).standard_normal(found["features"].shape)
    for name, weight in RULE.items():
        found["straight"][FEATURES.index(name)] = weight
    found["offset"][0] = OFFSET
    return found


def start_of(arguments: Arguments) -> NDArray[np.float64]:
    """Packed weights (P,) where the search begins."""
    if arguments.start == "none":
        return LAYOUTS["continuous"].pack(rule(arguments.hidden, arguments.seed))
    found = checkpoint.load(arguments.start)
    if found.engine != "continuous" or found.hidden != arguments.hidden:
        raise ValueError(f"{arguments.start}: engine {found.engine}, {found.hidden} hidden units: give one that fits.")
    return found.packed


def problem_of(arguments: Arguments) -> Problem:
    """The search of the network of the engine `continuous`."""
    courses, start = train_courses()[: arguments.courses or None], start_of(arguments)
    return Problem(
        start=start[1:],  # all but the number of hidden units
        pack=lambda x: np.concatenate([start[:1], x]),
        engine="continuous",
        runs_of=lambda seeds: runs_of(courses, seeds, arguments.requests, LOADS, RIVALS),
        training=range(TRAINING_SEED + 10, TRAINING_SEED + 10 + arguments.pool),
        validation=range(2),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Search; the exit code."""
    return evolution.run(argv, "search_continuous.py", (__doc__ or "").splitlines()[0], Arguments, problem_of)


if __name__ == "__main__":
    sys.exit(main())
