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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.batch_layout import CHOICE, CONTEXT, DERIVED, OWN, SHARED, SIZED, shapes
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train import evolution
from llmsched.train.evolution import Problem, Settings
from llmsched.train.systems import TRAINING_SEED, train_courses
from llmsched.train.validation import runs_of
from llmsched_env.core.view.observation import GLOBAL, PER_BIN

SHARED_USED: tuple[str, ...] = ("free", "servers", "busy_min", "busy_mean", "rate_fast", "rate_slow", "oldest_wait")
SHARED_USED += ("waiting_per_server", "in_service")
LARGEST_USED = ("hits_per_time", "due")
CHOICE_USED: tuple[str, ...] = ("head_wait", "head_predicted", "batch_time", "late")
CHOICE_USED += tuple(name for name in DERIVED if name != "due_soon")
"""The inputs of the hidden layer that are searched; the weights of the others stay 0."""


@dataclass(frozen=True)
class Arguments(Settings):
    """What a search is made of."""

    frozen: int = 0  # the first so many hidden units keep what goes into them


def names() -> dict[str, list[str]]:
    """Names of the inputs of the hidden layer and past it."""
    once = [name for name, *_ in GLOBAL]
    choice = [*(name for name, *_ in PER_BIN), *DERIVED]
    context = once + [f"largest {name}" for name in choice] + [f"mean {name}" for name in choice]
    return {"context": context, "choice": choice, "size": list(SIZED)}


def searched(hidden: int, frozen: int = 0) -> NDArray[np.int64]:
    """Places (D,), in a packed row of weights (layouts.Layout.pack), of those that are searched."""
    known = names()
    assert len(known["context"]) == CONTEXT and len(known["choice"]) == CHOICE and OWN + len(DERIVED) == CHOICE
    context = [known["context"].index(name) for name in (*SHARED_USED, *(f"largest {n}" for n in LARGEST_USED))]
    choice = [len(PER_BIN) + DERIVED.index(n) if n in DERIVED else known["choice"].index(n) for n in CHOICE_USED]
    used = {name: np.zeros(shape, bool) for name, shape in shapes(hidden).items()}
    for name in ("bias", "size", "out", "straight", "wait_offset"):
        used[name][:] = True
    used["context"][:, context] = True
    used["choice"][:, choice] = True
    used["wait_straight"][: SHARED + CHOICE] = True
    for name in ("bias", "context", "choice", "size"):
        used[name][:frozen] = False
    return 1 + np.flatnonzero(np.concatenate([used[name].ravel() for name in used]))  # after the hidden units


def put(x: NDArray[np.float64], places: NDArray[np.int64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Packed weights (P,): those of ``start`` (P,), with ``x`` (D,) at ``places`` (D,)."""
    packed = start.copy()
    packed[places] = x
    return packed


def start_of(arguments: Arguments) -> NDArray[np.float64]:
    """Packed weights (P,) where the search begins: a checkpoint, or the rule `most requests in time per second`."""
    if arguments.start != "none":
        found = checkpoint.load(arguments.start)
        if found.hidden != arguments.hidden:
            raise ValueError(f"{arguments.start} has {found.hidden} hidden units: give --hidden {found.hidden}.")
        return found.packed
    start = LAYOUTS["batch"].zeros(arguments.hidden)
    rng = np.random.default_rng(arguments.seed)
    for name in ("bias", "context", "choice", "size"):
        start[name][:] = 0.3 * rng.standard_normal(start[name].shape)
    start["straight"][OWN + 1], start["straight"][OWN + 2] = 2.0, 2.0
    start["straight"][CHOICE + 2], start["straight"][CHOICE + 5] = 1.0, 2.0
    start["wait_offset"][0] = -1.0
    return LAYOUTS["batch"].pack(start)


def problem_of(arguments: Arguments) -> Problem:
    """The search of the network of the engine `batch`."""
    start, places = start_of(arguments), searched(arguments.hidden, arguments.frozen)
    courses = train_courses()[: arguments.courses or None]
    return Problem(
        start=start[places],
        pack=lambda x: put(x, places, start),
        engine="batch",
        runs_of=lambda seeds: runs_of(courses, seeds, arguments.requests),
        training=range(TRAINING_SEED + 10, TRAINING_SEED + 10 + arguments.pool),
        validation=range(1),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Search; the exit code."""
    return evolution.run(argv, "search.py", (__doc__ or "").splitlines()[0], Arguments, problem_of)


if __name__ == "__main__":
    sys.exit(main())
