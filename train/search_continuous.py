"""Search weights for the network of the engine `continuous`: ``python train/search_continuous.py --out runs/search``.

As train/search.py, with its own systems, loads and heuristics.  The search begins at a rule: first come first served
up to the controllers' target, overdue requests up to about a fifth of it.
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

    need("search_continuous.py", "cma")

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.continuous_layout import FEATURES
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.arguments import setting
from llmsched.train.evolution import SearchProblem, SearchSettings, run_command
from llmsched.train.systems_continuous import LOADS, RIVALS, training_systems
from llmsched_env.commands.process import run_and_exit

RULE = {"room": 3.0, "first": 0.5, "overdue": -1.2, "lost": -1.2}
"""Weights of the rule past the hidden layer, by input."""

OFFSET = -0.47
"""What the rule adds to every score."""

SPREAD = 0.3
"""Standard deviation of the weights into the hidden units at the start."""


@dataclass(frozen=True)
class ContinuousSearchSettings(SearchSettings):
    """The settings of a search for the network of the engine `continuous`, with its own defaults."""

    out: str = setting("runs/search-continuous", "folder of the run")
    generations: int = setting(150, "generations")
    population: int = setting(20, "weights tried in every generation")
    sigma: float = setting(0.12, "first step size")
    hidden: int = setting(4, "hidden units of the network")
    pool: int = setting(3, "arrival seeds of every system and load")


def rule_weights(hidden: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """The weights of the rule; the hidden units have random inputs and no effect yet."""
    found = LAYOUTS["continuous"].zeros(hidden)
    found["features"][:] = SPREAD * np.random.default_rng(seed).standard_normal(found["features"].shape)
    for name, weight in RULE.items():
        found["straight"][FEATURES.index(name)] = weight
    found["offset"][0] = OFFSET
    return found


def start_weights(settings: ContinuousSearchSettings) -> NDArray[np.float64]:
    """Packed weights (P,) where the search begins: a checkpoint, or the rule."""
    if settings.start == "none":
        return LAYOUTS["continuous"].pack(rule_weights(settings.hidden, settings.seed))
    found = checkpoint.load(settings.start)
    if found.engine != "continuous" or found.hidden != settings.hidden:
        raise ValueError(
            f"{settings.start}: engine {found.engine}, {found.hidden} hidden units: give one of the engine "
            f"continuous, and --hidden {found.hidden}."
        )
    return found.packed


def make_problem(settings: ContinuousSearchSettings) -> SearchProblem:
    """The search for the network of the engine `continuous`; all weights are searched."""
    start = start_weights(settings)
    return SearchProblem(
        start=start[1:],  # all but the number of hidden units
        pack=lambda x: np.concatenate([start[:1], x]),
        systems=training_systems()[: settings.systems or None],
        loads=LOADS,
        rivals=RIVALS,
        validation_seeds=range(2),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Search; returns the exit code."""
    return run_command(argv, "search_continuous.py", __doc__, ContinuousSearchSettings, make_problem)


if __name__ == "__main__":
    run_and_exit(main)
