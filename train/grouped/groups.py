"""Groups of runs: the same arrivals, each run with its own draws of actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import Bound
from llmsched.train.grouped.costs import Floats, charged, costs_to_go
from llmsched.train.grouped.recording import log_for, make_recorder, read_log
from llmsched.train.systems import TrainingSystem
from llmsched_env.core.layout import DECIDE
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import seen_by_clients
from llmsched_env.simulation.simulator import Simulator

FLOOR = 0.005
"""Share of misses added before a relative change is taken, as in train.validation."""

SCALE = 100.0
"""Costs are in units that a critic can learn: SCALE is a run in which all misses of its group fall."""


@dataclass(frozen=True, eq=False)
class Played:
    """Decisions of one run (N of them)."""

    images: NDArray[np.float32]  # (N, ENTRIES)
    actions: NDArray[np.int64]  # (N,)
    gaps: Floats  # (N,): time until the next decision, in horizons
    costs: Floats  # (N,): cost charged until the next decision, discounted to this one
    to_go: Floats  # (N,): cost to come
    others: Floats  # (N,): mean cost to come of the other runs of the group, from the same instant on
    scored: NDArray[np.bool_]  # (N,): while requests still arrive
    misses: float  # share of the run's requests
    group: NDArray[np.int64]  # (N,): number of the system


class Group:
    """Runs the recorder in one system, with the queues of ``policy``."""

    def __init__(self, number: int, system: TrainingSystem, requests: int, recorder: Callable, policy: Bound) -> None:
        self.number = number
        self.system, self.requests, self.recorder = system, requests, recorder
        self.ready = policy.ready(system.config)
        self.simulator = Simulator(self.ready.config, requests)
        self.memory = log_for(requests)

    def run(self, drawn: Requests, weights: Floats, rng: np.random.Generator) -> tuple[Any, ...]:
        """(times, actions, observations, when misses are charged, share of misses) of one run."""
        self.simulator.load(0, drawn)
        self.memory[0] = 0.0
        assert self.simulator.run(self.recorder, weights, self.memory, rng, details=True) != DECIDE
        rows = self.simulator.finish(until=np.inf)
        _, met = seen_by_clients(rows, self.system.config)
        return (*read_log(self.memory), charged(rows, met, self.system.target_s), 1.0 - float(np.mean(met)))

    def play(
        self, load: float, seed: int, weights: Floats, runs: int, horizon: float, rng: np.random.Generator
    ) -> list[Played]:
        """``runs`` runs on the arrivals of ``seed`` at ``load``; ``horizon`` is in targets.  Empty: nobody missed."""
        drawn = self.system.arrivals(load * self.system.capacity, self.requests).draw(seed)
        found = [self.run(drawn, weights, rng) for _ in range(runs)]
        mean = float(np.mean([misses for *_, misses in found]))
        if mean == 0.0:
            return []
        unit, horizon_s = SCALE / (len(drawn) * (mean + FLOOR)), horizon * self.system.target_s
        played = []
        for times, actions, images, when, misses in found:
            every = [costs_to_go(times, other, horizon_s) for *_, other, _ in found]
            own = costs_to_go(times, when, horizon_s)
            others = (np.sum(every, axis=0) - own) / (runs - 1)
            gaps = np.diff(times, append=np.inf) / horizon_s
            later = np.append(own[1:], 0.0) * np.exp(-gaps)
            played.append(
                Played(
                    images,
                    actions,
                    gaps,
                    unit * (own - later),
                    unit * own,
                    unit * others,
                    times <= drawn.arrival_s[-1],
                    misses,
                    np.full(len(times), self.number),
                )
            )
        return played


def make_groups(systems: list[TrainingSystem], requests: int, policy: Bound) -> list[Group]:
    """A group for every system, with the queues of ``policy``."""
    recorder = make_recorder()
    return [Group(number, system, requests, recorder, policy) for number, system in enumerate(systems)]
