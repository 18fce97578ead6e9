"""Search for a plan in hindsight: simulated annealing over sequences of decisions, every trial a compiled run.

The search minimises missed requests, and with equal misses the mean latency.  Its steps are guided by a smooth count,
in which a request close to its target counts in part: the number of misses alone is flat almost everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numba import njit, typeof, types

from llmsched.eval.best_possible.plans import ROWS, Plan, compiled_plan
from llmsched_env.compiler.parts import fingerprint
from llmsched_env.config import SimConfig
from llmsched_env.core.layout import RECORD
from llmsched_env.core.state import ARRAYS
from llmsched_env.core.view.decide import DECIDE_TYPE
from llmsched_env.engines.batch.run import run_lane
from llmsched_env.requests import Requests
from llmsched_env.simulation.compiled_calls import call_compiled
from llmsched_env.simulation.simulator import Simulator

HOT, COLD = 0.5, 0.02
"""First and last temperature, in missed requests; geometric in between."""

SOFT = 0.03
"""Width of the smooth step from met to missed, in multiples of the target."""

NEVER = 10.0
"""Most latency of a request, in multiples of the target; a request that never completes counts with it."""

MORE = 0.3
"""Probability of each further change in one trial."""

REACH = 8
"""Most decisions that one change covers."""

PARTS = 5
"""State arrays that a run changes: lanes, bins, servers, requests, SLOs."""

IMAGES = types.UniTuple(types.uint8[::1], 2 * PARTS)
GENERATOR = typeof(np.random.default_rng(0))


@njit
def judge_rows(rows, target_s):
    """(missed requests, mean latency in targets, misses with a soft step) of REQUEST ``rows`` after a run."""
    missed, latency, soft = 0.0, 0.0, 0.0
    for i in range(len(rows)):
        took_s = rows[i].completion - rows[i].arrival
        if not took_s <= target_s:
            missed += 1.0
        took = took_s / target_s if took_s <= NEVER * target_s else NEVER
        latency += took
        soft += 1.0 / (1.0 + math.exp(-min(max((took - 1.0) / SOFT, -30.0), 30.0)))
    return missed, latency / len(rows), soft


@njit
def some_size(max_batch, rng):
    """A random batch size, log-uniform."""
    return min(math.floor(2.0 ** (rng.random() * math.log2(2.0 * max_batch))), max_batch)


@njit
def change_one(plan, at, bins, max_batch, rng):
    """Change decision ``at`` of the flat ``plan``: another bin, a near size, both new, or a wait."""
    kind = rng.integers(0, 10)
    if kind < 4 or kind >= 8:
        plan[2 * at] = rng.integers(0, bins + 1)
    if 4 <= kind < 8:
        step = rng.integers(1, 5) * (1 if rng.random() < 0.5 else -1)
        plan[2 * at + 1] = min(max(plan[2 * at + 1] + step, 1), max_batch)
    elif kind == 8:
        plan[2 * at + 1] = some_size(max_batch, rng)
    elif kind == 9 and rng.random() < 0.5:
        plan[2 * at + 1] = 0.0


@njit
def insert(plan, at, used, bins, max_batch, rng):
    """Insert a decision before ``at``."""
    end = min(used + 1, len(plan) // 2)
    for i in range(2 * end - 1, 2 * at + 1, -1):
        plan[i] = plan[i - 2]
    plan[2 * at], plan[2 * at + 1] = rng.integers(0, bins + 1), some_size(max_batch, rng)
    if rng.random() < 0.2:
        plan[2 * at + 1] = 0.0


@njit
def remove(plan, at, used):
    """Remove decision ``at``."""
    for i in range(2 * at, 2 * min(used, len(plan) // 2 - 1)):
        plan[i] = plan[i + 2]


@njit
def swap(plan, at, other):
    """Exchange two decisions."""
    for j in range(2):
        plan[2 * at + j], plan[2 * other + j] = plan[2 * other + j], plan[2 * at + j]


@njit
def change_run(plan, at, end, bins, max_batch, rng):
    """Give the decisions ``at`` to ``end`` - 1 one bin, or scale their sizes."""
    choice, factor, of_bin = rng.integers(0, bins + 1), 0.5 + rng.random(), rng.random() < 0.5
    for i in range(at, end):
        if of_bin:
            plan[2 * i] = choice
        else:
            plan[2 * i + 1] = min(max(round(plan[2 * i + 1] * factor), 1), max_batch)


@njit
def change(plan, used, bins, max_batch, rng):
    """Change the flat ``plan`` at a random one of the ``used`` decisions of its run."""
    at = rng.integers(0, used)
    kind = rng.integers(0, 10)
    if kind < 5:
        change_one(plan, at, bins, max_batch, rng)
    elif kind == 5:
        insert(plan, at, used, bins, max_batch, rng)
    elif kind == 6:
        remove(plan, at, used)
    elif kind == 7:
        swap(plan, at, min(at + rng.integers(1, REACH), used - 1))
    elif kind == 8:  # move requests from one batch to another
        other = rng.integers(0, used)
        step = min(float(rng.integers(1, 5)), plan[2 * at + 1] - 1.0)
        if step > 0.0:
            plan[2 * at + 1] -= step
            plan[2 * other + 1] = min(plan[2 * other + 1] + step, max_batch)
    else:
        change_run(plan, at, min(at + rng.integers(1, REACH), used), bins, max_batch, rng)


def carry_out_entry(sources: str) -> Callable:
    """The compiled entry; ``sources`` (parts.fingerprint) is a closure variable and so part of its cache key."""

    @njit(
        types.void(ARRAYS, typeof(np.zeros(1, RECORD)), IMAGES, DECIDE_TYPE, types.f8[::1], types.f8[::1], GENERATOR),
        cache=True,
        nogil=True,
    )
    def carry_out(arrays, record, images, decide, plan, memory, rng):
        """Run the flat ``plan`` from the start; ``images``: the state as bytes, then as it was loaded."""
        sources  # noqa: B018
        for k in range(PARTS):
            images[k][:] = images[PARTS + k]
        memory[0] = 0.0
        run_lane(arrays, record, decide, plan, memory, rng, False, 1 << 60)

    return carry_out


carry_out = carry_out_entry(fingerprint())


def anneal_entry(sources: str) -> Callable:
    """The compiled entry; ``carry_out`` must not be a closure variable: it is another one in every process."""

    @njit(
        types.UniTuple(types.f8, 2)(
            *(ARRAYS, typeof(np.zeros(1, RECORD)), IMAGES, DECIDE_TYPE, types.f8[::1], GENERATOR, types.f8, types.i8)
        ),
        cache=True,
        nogil=True,
    )
    def anneal(arrays, record, images, decide, best, rng, target_s, trials):
        """Replace the flat plan ``best`` by the best of ``trials`` more; its misses and mean latency in targets."""
        sources  # noqa: B018
        memory = np.zeros(1)
        carry_out(arrays, record, images, decide, best, memory, rng)
        bins, max_batch, rows = arrays.params[0].num_bins, arrays.params[0].max_batch, arrays.requests[0]
        least, latency, soft = judge_rows(rows, target_s)
        present, quickest, used = soft + latency, latency, min(int(memory[0]), len(best) // 2)
        plan, trial = best.copy(), best.copy()
        for number in range(trials):
            trial[:] = plan
            change(trial, used, bins, max_batch, rng)
            while rng.random() < MORE:
                change(trial, used, bins, max_batch, rng)
            carry_out(arrays, record, images, decide, trial, memory, rng)
            missed, latency, soft = judge_rows(rows, target_s)
            if missed < least or (missed == least and latency < quickest):
                least, quickest = missed, latency
                best[:] = trial
            worse = soft + latency - present
            if worse <= 0.0 or rng.random() < math.exp(-worse / (HOT * (COLD / HOT) ** (number / trials))):
                present, used = soft + latency, min(int(memory[0]), len(best) // 2)
                plan[:] = trial
        return least, quickest

    return anneal


anneal = anneal_entry(fingerprint())


@dataclass(frozen=True)
class PlanScore:
    """Missed requests of a plan, its mean latency in multiples of the target, and the decisions of its run."""

    missed: int
    latency: float
    decisions: int = 0

    @property
    def order(self) -> tuple[int, float]:
        """A key that sorts the better first."""
        return self.missed, self.latency


class TraceSimulation:
    """One trace under one discipline of the bins, which is simulated many times."""

    def __init__(self, config: SimConfig, order: str, requests: Requests, noise_key: int = 0) -> None:
        slo = config.server_slos[0]
        if len(config.slos) > 1 or config.engine != "batch" or min(slo.ttft_s, slo.tpot_s) < math.inf:
            raise ValueError("a search in hindsight needs the engine batch and an E2E target alone.")
        self._config = replace(config, queueing=replace(config.queueing, discipline=order))
        self._simulator = Simulator(self._config, len(requests))
        self._simulator.load(0, requests, noise_key=noise_key)
        simulator, self._rows, self._target_s = self._simulator, ROWS * len(requests), slo.e2e_s
        parts = (simulator.lane, simulator.bins, simulator.servers, simulator.requests, simulator.slos)
        live = [np.asarray(part).reshape(-1).view(np.uint8).view(np.ndarray) for part in parts]
        self._images = (*live, *(image.copy() for image in live))

    def _flat(self, plan: Plan) -> Plan:
        """``plan`` with all its rows; those after its end are `any`, with the largest batch."""
        rows = np.tile([float(self._config.queueing.num_bins), float(self._config.max_batch)], (self._rows, 1))
        kept = plan[: self._rows]
        rows[: len(kept)] = kept
        return np.ascontiguousarray(rows.reshape(-1))

    def judge(self, plan: Plan) -> PlanScore:
        """Simulate ``plan`` and score it."""
        simulator, memory = self._simulator, np.zeros(1)
        flat, rng = self._flat(plan), np.random.default_rng(0)
        call_compiled(carry_out, simulator.arrays, simulator.record, self._images, compiled_plan(), flat, memory, rng)
        missed, latency, _ = judge_rows(simulator.requests[0], self._target_s)
        return PlanScore(int(missed), float(latency), int(memory[0]))

    def improve(self, plan: Plan, trials: int, rng: np.random.Generator) -> Plan:
        """The best of ``plan`` and of ``trials`` plans made from it, without rows that its run does not use."""
        simulator, flat = self._simulator, self._flat(plan)
        target_s, decide = self._target_s, compiled_plan()
        call_compiled(anneal, simulator.arrays, simulator.record, self._images, decide, flat, rng, target_s, trials)
        best = flat.reshape(-1, 2)
        return best[: self.judge(best).decisions].copy()
