"""The factors of the overdue queue, chosen on the first part of the trace.

Which requests to give up depends on the load, which a configuration does not hold: at light load nearly none, in
overload many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.runs.runner import run_tasks
from llmsched.policies import Bound
from llmsched.policies.network.settings import OVERDUE_BATCH_FACTOR, OVERDUE_FACTOR
from llmsched.train.systems import ReusedSimulator
from llmsched.train.validation import ScoredRun, network_policy, score_weights
from llmsched_env.config import SimConfig

Overdue = tuple[float, float]
"""The overdue factor and the overdue batch factor."""

OF_NETWORK: Overdue = (OVERDUE_FACTOR["batch"], OVERDUE_BATCH_FACTOR)

GRID = (*product((0.0, 0.5, 1.0, 2.0, 3.0), (0.5, 0.65, 0.8, 1.0)), OF_NETWORK)

MOST_RUNS = 48
"""Runs that the factors are chosen on, at most: evenly spaced ones of all."""


def with_overdue(overdue: Overdue | None) -> Bound:
    """The policy `network` with these factors; none: those that it sets itself."""
    policy = network_policy()
    return policy if overdue is None else policy.with_params(overdue=overdue[0], overdue_batch=overdue[1])


def choose_overdue(
    config: SimConfig, runs: Sequence[ScoredRun], weights: NDArray[np.float64], own: Overdue | None, jobs: int
) -> Overdue:
    """The factors of GRID, or ``own``, with which packed ``weights`` (P,) lose least on ``runs``.

    Of equal ones the first, and ``own`` (the weights' own factors, none: the network's) before all others.
    """
    kept = [runs[place] for place in np.unique(np.linspace(0, len(runs) - 1, MOST_RUNS).round().astype(int))]
    choices = [own or OF_NETWORK, *GRID]
    most = max(len(run.requests) for run in kept)

    def task(place: int) -> Callable[[], tuple[int, float]]:
        def scored() -> tuple[int, float]:
            """(``place``, loss with the factors there)."""
            simulator = ReusedSimulator(config, most)  # its own: tasks run beside each other
            mine = [_on(run, simulator) for run in kept]
            return place, score_weights(mine, weights, with_overdue(choices[place])).mean

        return scored

    losses = dict(run_tasks([task(place) for place in range(len(choices))], jobs))
    return choices[min(losses, key=lambda place: (losses[place], place))]


def _on(run: ScoredRun, simulator: ReusedSimulator) -> ScoredRun:
    """The same run in another simulator."""
    return dataclasses.replace(run, simulator=simulator)
