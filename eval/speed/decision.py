"""What a decision of a trained network costs, and the forecasts that it reads, in an overload with long queues."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numba import njit

from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.eval.speed.kernel import with_requests
from llmsched.eval.speed.table import SpeedRow
from llmsched.policies import Bound, parse
from llmsched_env.core.view.decide import DECIDE_SIGNATURE
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import Simulator

RULE = "longest-queue"
"""Its decisions cost next to nothing, and do not depend on the forecasts."""

NETWORKS = ("network", "ppo")

WITHOUT_OVERDUE = "overdue=0:overdue_batch=0"
"""So that all requests wait in the bins, and every batch size has to be scored."""

BINS = (4, 8)

RATE = 40.0
"""Requests/s on the four servers of the default scenario: three times what they serve in time."""

REQUESTS = 20_000

ROUNDS = 4
"""Runs of each kind for every repeat: they are short."""


def twice(decide: Callable) -> Callable:
    """The policy that decides two times over, and does what ``decide`` does."""

    @njit(DECIDE_SIGNATURE)
    def decide_twice(record, params, memory, rng):
        """The second answer, which is the first one."""
        first = decide(record, params, memory, rng)
        second = decide(record, params, memory, rng)
        return (second[0], second[1]) if first[0] == second[0] else (first[0], 0)

    return decide_twice


class Run:
    """Runs of a policy on the same arrivals, and the least CPU time of a decision so far, s.

    ``details``: with the forecasts; ``double``: every decision is made twice.
    """

    def __init__(self, scenario: Scenario, requests: Requests, bound: Bound, *, details: bool, double: bool) -> None:
        self._ready, self._requests, self._details = bound.ready(scenario.config), requests, details
        self._decide = twice(bound.decide) if double else self._ready.decide
        self._simulator, self.best = Simulator(self._ready.config, len(requests)), np.inf

    def again(self) -> None:
        """One run more."""
        simulator, ready = self._simulator, self._ready
        simulator.load(0, self._requests)
        memory, rng = np.zeros(max(1, ready.memory_size)), np.random.default_rng(0)
        began = time.process_time()
        simulator.run(self._decide, ready.params, memory, rng, details=self._details)
        spent = time.process_time() - began
        self.best = min(self.best, spent / float(simulator.lane[0]["counts"]["decisions"]))


def measure(repeats: int) -> list[SpeedRow]:
    """The forecasts and both networks, with four and eight bins; all take turns, so that a slow phase is of all."""
    rows = []
    for bins in BINS:
        scenario = scenario_of("--bins", str(bins)).at_rate(RATE)
        drawn = with_requests(scenario, REQUESTS).draw(0)
        policies = [parse(RULE), *(parse(f"{name}:{WITHOUT_OVERDUE}") for name in NETWORKS)]
        plain = Run(scenario, drawn, policies[0], details=False, double=False)
        rule, *once = (Run(scenario, drawn, policy, details=True, double=False) for policy in policies)
        double = [Run(scenario, drawn, policy, details=True, double=True) for policy in policies[1:]]
        for _ in range(ROUNDS * repeats):
            for run in (plain, rule, *once, *double):
                run.again()
        note = f"{RULE}: {1e6 * rule.best:.2f} us with the simulator, {1e6 * plain.best:.2f} us without forecasts"
        rows.append(SpeedRow("decision", f"forecasts, {bins} bins", 1e6 * (rule.best - plain.best), "us", note=note))
        for name, one, two in zip(NETWORKS, once, double, strict=True):
            whole, asked = 1e6 * one.best, 1e6 * two.best
            note = f"{whole:.2f} us with the simulator and the forecasts, {asked:.2f} us where it is asked twice"
            rows.append(SpeedRow("decision", f"{name}, {bins} bins", asked - whole, "us", note=note))
    return rows
