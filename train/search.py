"""Search weights for the network of the engine `batch`: ``python train/search.py --out runs/search``.

An evolution strategy (CMA-ES, the package cma) minimises the misses of long simulated runs, as a log ratio to the best
heuristic's misses on the same arrivals.  Systems and loads are drawn anew in every generation.  No reward has to be
distributed over time and nothing is discounted; a run of thousands of requests takes milliseconds.  ``--resume``
continues a search that was stopped.  train/ppo.py can start from the result.
"""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    if not __package__:  # run as a script: import from the checkout, not from train/
        sys.path[0] = str(Path(__file__).resolve().parents[1])
    from llmsched_env.commands.needs import need

    need("search.py", "cma")

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.batch_layout import CHOICE, DERIVED, SHARED, shapes
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.arguments import setting
from llmsched.train.evolution import SearchProblem, SearchSettings, run_command
from llmsched.train.start_rule import rule_weights
from llmsched.train.systems import training_systems
from llmsched.train.validation import LOADS, RIVALS
from llmsched_env.commands.process import run_and_exit
from llmsched_env.core.view.observation import GLOBAL, PER_BIN

SHARED_INPUTS: tuple[str, ...] = ("free", "servers", "busy_min", "busy_mean", "rate_fast", "rate_slow", "oldest_wait")
SHARED_INPUTS += ("waiting_per_server", "in_service")
"""Inputs of the hidden layer that exist once and are searched; the weights of the others stay 0."""

LARGEST_INPUTS = ("hits_per_time", "due")
"""Inputs of the hidden layer, as the largest over the bins, that are searched."""

CHOICE_INPUTS: tuple[str, ...] = ("head_wait", "head_predicted", "batch_time", "overdue")
CHOICE_INPUTS += tuple(name for name in DERIVED if name != "due_soon")
"""Inputs of the hidden layer of a choice that are searched."""

SPREAD = 0.3
"""Standard deviation of the weights into the hidden units at the start."""


@dataclass(frozen=True)
class BatchSearchSettings(SearchSettings):
    """The settings of a search for the network of the engine `batch`."""

    frozen: int = setting(0, "the first N hidden units keep the weights of their inputs")


def searched_places(hidden: int, frozen: int = 0) -> NDArray[np.int64]:
    """Places (D,), in a packed row of weights (layouts.Layout.pack), of those that are searched."""
    once, per_bin = [name for name, *_ in GLOBAL], [name for name, *_ in PER_BIN]
    largest = [SHARED + len(per_bin) + DERIVED.index(name) for name in LARGEST_INPUTS]
    context = [once.index(name) for name in SHARED_INPUTS] + largest
    choice = [len(per_bin) + DERIVED.index(n) if n in DERIVED else per_bin.index(n) for n in CHOICE_INPUTS]
    used = {name: np.zeros(shape, bool) for name, shape in shapes(hidden).items()}
    for name in ("bias", "size", "out", "straight", "wait_offset"):
        used[name][:] = True
    used["context"][:, context] = True
    used["choice"][:, choice] = True
    used["wait_straight"][: SHARED + CHOICE] = True
    for name in ("bias", "context", "choice", "size"):
        used[name][:frozen] = False
    searched = np.concatenate([mask.ravel() for mask in used.values()])
    return packed_places(hidden)[searched]


def packed_places(hidden: int) -> NDArray[np.int64]:
    """Place, in a packed row of weights, of every weight when the arrays are read row by row."""
    shapes_of, count = shapes(hidden), 0
    numbers = {}
    for name, shape in shapes_of.items():
        size = math.prod(shape)
        numbers[name] = np.arange(count, count + size).reshape(shape).astype(float)
        count += size
    return 1 + np.argsort(LAYOUTS["batch"].pack(numbers)[1:])  # after the hidden units


def put_weights(x: NDArray[np.float64], places: NDArray[np.int64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Packed weights (P,): those of ``start`` (P,), with ``x`` (D,) at ``places`` (D,)."""
    packed = start.copy()
    packed[places] = x
    return packed


def start_weights(settings: BatchSearchSettings) -> NDArray[np.float64]:
    """Packed weights (P,) where the search begins: a checkpoint, or the start rule with random hidden inputs."""
    if settings.start != "none":
        found = checkpoint.load(settings.start)
        if found.engine != "batch" or found.hidden != settings.hidden:
            raise ValueError(
                f"{settings.start}: engine {found.engine}, {found.hidden} hidden units: give one of the engine "
                f"batch, and --hidden {found.hidden}."
            )
        return found.packed
    start, rng = rule_weights(settings.hidden), np.random.default_rng(settings.seed)
    for name in ("bias", "context", "choice", "size"):
        start[name][:] = SPREAD * rng.standard_normal(start[name].shape)
    return LAYOUTS["batch"].pack(start)


def make_problem(settings: BatchSearchSettings) -> SearchProblem:
    """The search for the network of the engine `batch`."""
    start, places = start_weights(settings), searched_places(settings.hidden, settings.frozen)
    return SearchProblem(
        start=start[places],
        pack=lambda x: put_weights(x, places, start),
        systems=training_systems()[: settings.systems or None],
        loads=LOADS,
        rivals=RIVALS,
        validation_seeds=range(1),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Search; returns the exit code."""
    return run_command(argv, "search.py", __doc__, BatchSearchSettings, make_problem)


if __name__ == "__main__":
    run_and_exit(main)
