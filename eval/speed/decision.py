"""What a decision of a trained network costs, and the forecasts that it reads, in an overload with long queues."""

from __future__ import annotations

import time

import numpy as np

from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.eval.speed.kernel import with_requests
from llmsched.eval.speed.table import SpeedRow
from llmsched.policies import Bound, parse
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import Simulator

RULE = "longest-queue"
"""Its decisions cost next to nothing."""

NETWORKS = ("network", "ppo")

WITHOUT_OVERDUE = "overdue=0:overdue_batch=0"
"""So that all requests wait in the bins, and every batch size has to be scored."""

BINS = (4, 8)

RATE = 40.0
"""Requests/s on the four servers of the default scenario: three times what they serve in time."""

REQUESTS = 20_000


def decision_seconds(scenario: Scenario, requests: Requests, bound: Bound, details: bool, repeats: int) -> float:
    """CPU seconds of a run per decision, the least of ``repeats``; ``details``: with the forecasts."""
    ready = bound.ready(scenario.config)
    simulator, best = Simulator(ready.config, len(requests)), np.inf
    for _ in range(repeats):
        simulator.load(0, requests)
        memory, rng = np.zeros(max(1, ready.memory_size)), np.random.default_rng(0)
        began = time.process_time()
        simulator.run(ready.decide, ready.params, memory, rng, details=details)
        spent = time.process_time() - began
        best = min(best, spent / float(simulator.lane[0]["counts"]["decisions"]))
    return float(best)


def measure(repeats: int) -> list[SpeedRow]:
    """The forecasts and both networks, with four and eight bins."""
    rows = []
    for bins in BINS:
        scenario = scenario_of("--bins", str(bins)).at_rate(RATE)
        drawn = with_requests(scenario, REQUESTS).draw(0)
        plain, rule = (decision_seconds(scenario, drawn, parse(RULE), details, repeats) for details in (False, True))
        note = f"{RULE}: {1e6 * rule:.2f} us with the simulator, {1e6 * plain:.2f} us without forecasts"
        rows.append(SpeedRow("decision", f"forecasts, {bins} bins", 1e6 * (rule - plain), "us", note=note))
        for name in NETWORKS:
            found = decision_seconds(scenario, drawn, parse(f"{name}:{WITHOUT_OVERDUE}"), True, repeats)
            note = f"{1e6 * found:.2f} us with the simulator and the forecasts"
            rows.append(SpeedRow("decision", f"{name}, {bins} bins", 1e6 * (found - rule), "us", note=note))
    return rows
