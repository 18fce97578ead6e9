"""What the search minimises: misses on windows of the first part, as a log ratio to those of the generic weights."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.runs.runner import run_tasks
from llmsched.policies import Bound
from llmsched.train.retuning.parts import Part
from llmsched.train.search import put_weights, searched_places
from llmsched.train.systems import ReusedSimulator
from llmsched.train.validation import ScoredRun, score_weights
from llmsched_env.config import SimConfig

FACTORS = (0.9, 1.0, 1.1)
"""Speeds of the clock of the windows: what is learned should hold at nearby rates too."""

SPLIT = "validation"
"""Split of the draws (start of a window, noise of the predictions); what is judged is drawn from "test"."""

Floats = NDArray[np.float64]


def searched(engine: str, packed: Floats) -> NDArray[np.int64]:
    """Places (D,) in packed weights (P,) that are searched: those of the first searches."""
    return searched_places(int(packed[0])) if engine == "batch" else np.arange(1, len(packed))


def packing(places: NDArray[np.int64], generic: Floats) -> Callable[[Floats], Floats]:
    """From a point (D,) to packed weights (P,): the generic ones elsewhere."""
    return lambda point: put_weights(point, places, generic)


def training_runs(
    config: SimConfig, parts: Sequence[Part], seeds: Sequence[int], generic: Floats, policy: Bound
) -> list[ScoredRun]:
    """Every window at every speed of its clock and with every seed, and what the generic weights (P,) miss there, with
    the queues of ``policy``."""
    runs = []
    simulator = ReusedSimulator(config, max(part.last - part.first for part in parts))
    for part in parts:
        for factor in FACTORS:
            workload = part.at(factor).workload
            for seed in seeds:
                drawn, first = workload.draw(seed, SPLIT), workload.warmup
                misses = simulator.misses(policy, drawn, generic, first)
                runs.append(ScoredRun(part, factor, simulator, drawn, misses, "network", first))
    return runs


class Losses:
    """The losses of points on drawn runs with the queues of ``policy``, several points at a time; they do not depend on
    how many."""

    def __init__(
        self,
        config: SimConfig,
        runs: Sequence[ScoredRun],
        pack: Callable[[Floats], Floats],
        jobs: int,
        policy: Bound,
    ):
        self._runs, self._pack, self._jobs, self._policy = runs, pack, jobs, policy
        self._idle: queue.SimpleQueue[ReusedSimulator] = queue.SimpleQueue()  # a simulator serves one thread at a time
        for _ in range(jobs):
            self._idle.put(ReusedSimulator(config, max(len(run.requests) for run in runs)))

    def __call__(self, drawn: list[int], points: Sequence[Floats]) -> list[float]:
        """The loss of every point (D,) on the runs at the places ``drawn``."""
        tasks = [self._task(place, [self._runs[run] for run in drawn], point) for place, point in enumerate(points)]
        found = dict(run_tasks(tasks, self._jobs))
        return [found[place] for place in range(len(points))]

    def _task(self, place: int, runs: Sequence[ScoredRun], point: Floats) -> Callable[[], tuple[int, float]]:
        def scored() -> tuple[int, float]:
            """(``place``, loss of the point)."""
            simulator = self._idle.get()
            try:
                own = [replace(run, simulator=simulator) for run in runs]
                return place, score_weights(own, self._pack(point), self._policy).mean
            finally:
                self._idle.put(simulator)

        return scored
