"""Plans: whole sequences of decisions for one trace, made in hindsight.

A plan is an array (D, 2) of (bin, size), a row per decision of the run: bin K is `any`, size 0 is to wait.  It is made
by simulating the arrivals with their true lengths.  The discipline of the bins is not part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from llmsched.eval.runs.runner import Cell
from llmsched.policies import Bound, Policy
from llmsched.policies.registry import Decision, Floats, Record
from llmsched_env.core.view.decide import DECIDE_SIGNATURE
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import Simulator
from llmsched_env.workload.streams import streams

Plan = NDArray[np.float64]

ROWS = 4
"""Rows of a plan per request: more than the decisions of a run in which no timer wakes a server."""


def follow_plan(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The next row of the plan in ``params``; after the last one the longest queue, with its target size."""
    step = int(memory[0])
    memory[0] += 1.0
    if 2 * step + 1 < len(params):
        return int(params[2 * step]), int(params[2 * step + 1])
    best = 0
    for k in range(1, record.num_bins):
        if record.queue_length[k] > record.queue_length[best]:
            best = k
    return best, record.target[best]


@cache
def compiled_plan() -> Callable:
    """``follow_plan`` for the kernel, compiled once for all plans."""
    return njit(DECIDE_SIGNATURE)(follow_plan)


@dataclass(frozen=True, eq=False)
class _PlanPolicy(Policy):
    """A policy that follows a plan."""

    @property
    def decide(self) -> Callable:
        """The compiled function that reads a plan."""
        return compiled_plan()


def plan_policy(name: str, plan: Plan, order: str) -> Bound:
    """A policy that follows ``plan``, with the discipline ``order`` of the bins."""
    params = np.ascontiguousarray(plan, dtype=np.float64).reshape(-1)
    return _PlanPolicy(
        name,
        follow_plan,
        "a plan made in hindsight",
        queueing=lambda values: {"discipline": order},
        clairvoyant=True,
        load=lambda values, config: (params, 1),
    ).bind()


@cache
def _with_record(decide: Callable) -> Callable:
    """``decide``, compiled, that also records its answers in ``memory``: start of its own memory, count, answers."""

    def recording_decide(record, params, memory, rng):
        """The answer of ``decide``, kept while there is room."""
        own, step = int(memory[0]), int(memory[1])
        choice, size = decide(record, params, memory[own:], rng)
        if 2 * step + 4 <= own:  # there is room
            memory[2 + 2 * step], memory[3 + 2 * step] = choice, size
            memory[1] += 1.0
        return choice, size

    return njit(DECIDE_SIGNATURE)(recording_decide)


def noise_key(cell: Cell) -> int:
    """The key of the latency noise of ``cell``."""
    return int(streams(cell.seed, cell.split)["noise"].integers(2**63))


def decisions_of(cell: Cell, requests: Requests) -> Plan:
    """The decisions of the policy of ``cell`` on ``requests``, as a plan."""
    policy = cell.policy
    ready = policy.ready(cell.scenario.config)
    simulator = Simulator(ready.config, len(requests))
    simulator.load(0, requests, noise_key=noise_key(cell))
    own = 2 + 2 * ROWS * len(requests)
    memory = np.zeros(own + max(1, ready.memory_size))
    memory[0] = own
    rng = streams(cell.seed, cell.split)["policy"]
    simulator.run(_with_record(ready.decide), ready.params, memory, rng, details=ready.details)
    return memory[2 : 2 + 2 * int(memory[1])].reshape(-1, 2).copy()
