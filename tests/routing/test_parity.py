"""Routing as a decision: the compiled engine and the oracle tell a router the same, and go on alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_env.core.view.route import compile_route
from llmsched_env.simulation.route_call import RouteCall
from llmsched_env.simulation.simulator import simulate
from tests.oracles.batch.requests import Request
from tests.oracles.continuous.cases import Case, dice, make_case, make_script
from tests.oracles.continuous.routing import Router
from tests.oracles.continuous.simulator import ContinuousSimulator
from tests.simulator.test_parity_continuous import COMPILED, NOISE_KEY, POLICIES, STAMPS, parameters, with_engine

WIDTH = 7


def scattered(record, params, memory, rng):
    """A server by the number of the request; notes what the record says of every server."""
    for s in range(record.num_servers):
        at = 1 + int(memory[0]) * 7
        memory[at] = record.now
        memory[at + 1] = record.number
        memory[at + 2] = record.waiting[s]
        memory[at + 3] = record.running[s]
        memory[at + 4] = record.kv_load[s]
        memory[at + 5] = record.sent[s]
        memory[at + 6] = record.cached[s]
        memory[0] += 1
    return (7 * record.number + 3) % record.num_servers


ROUTE = compile_route(scattered, cache=False)


@dataclass
class Reading:
    """The load of a server as it was read last."""

    waiting: int
    running: int
    kv_load: float
    sent: int = 0


class AskedRouter(Router):
    """The routing `asked` of docs/reference/continuous.md, 7.8, with the same answers; keeps the same notes."""

    def __init__(self, oracle: ContinuousSimulator, age: float) -> None:
        super().__init__("asked", oracle.servers)
        self.oracle, self.age = oracle, age
        self.read_at = -math.inf
        self.readings: list[Reading] = []
        self.notes: list[list[float]] = []

    def send(self, request: Request, waiting: dict[int, list[Request]]) -> int:
        """Read the loads unless they are young, note what is seen, and answer."""
        now = self.oracle.now
        if not self.readings or now - self.read_at >= self.age:
            self.read_at = now
            self.readings = [
                Reading(len(waiting[s.number]), len(s.members), self._load(s, waiting[s.number])) for s in self.servers
            ]
        for server, seen in zip(self.servers, self.readings, strict=True):
            cached = 0
            if server.cache:
                cached = 16 * len(server.cache.find(request.number, request.prompt))
            note = [now, request.number, seen.waiting, seen.running, seen.kv_load, seen.sent, cached]
            self.notes.append([float(value) for value in note])
        count = len(self.servers)
        wanted = (7 * request.number + 3) % count
        fits = [server.number for server in self.servers if request.prompt <= server.eta]
        chosen = min(fits, key=lambda s: (s - wanted) % count)
        self.readings[chosen].sent += 1
        return chosen


@dataclass
class Both:
    """The same run in both: REQUEST rows and the notes of the router."""

    rows: NDArray
    slow: Any
    notes: NDArray[np.float64]
    slow_notes: NDArray[np.float64]


def run_both(case: Case, name: str, age: float, values: Sequence[float] = ()) -> Both:
    """The run of ``case`` under the policy ``name``, loads read anew after ``age`` seconds."""
    case = replace(case, options=replace(case.options, routing="asked"))
    config = with_engine(case)
    config = replace(config, continuous=replace(config.continuous, load_age_s=age))
    policy, rng = POLICIES[name], np.random.default_rng(0)
    slow_params, fast_params, memory = parameters(values), parameters(values), np.zeros(4)
    oracle = ContinuousSimulator(
        config, case.requests, lambda view: policy(view, slow_params, memory, rng), noise_key=NOISE_KEY
    )
    oracle.router = router = AskedRouter(oracle, age)
    slow = oracle.run()
    noted = np.zeros(1 + WIDTH * len(config.servers) * len(case.requests))
    call = RouteCall(ROUTE, memory=noted)
    options = {"params": fast_params, "memory_size": 4, "details": True, "noise_key": NOISE_KEY}
    fast = simulate(config, case.requests, COMPILED[name], route=call, **options)
    found = noted[1 : 1 + WIDTH * int(noted[0])].reshape(-1, WIDTH)
    return Both(fast.requests, slow, found, np.array(router.notes).reshape(-1, WIDTH))


def assert_alike(run: Both, rtol: float) -> None:
    """The same questions in the same order with the same facts, and the same stamps."""
    np.testing.assert_allclose(run.notes, run.slow_notes, rtol=max(rtol, 1e-12), atol=0)
    for name in STAMPS:
        np.testing.assert_allclose(run.rows[name], getattr(run.slow, name), rtol=rtol, atol=0, err_msg=name)
    np.testing.assert_array_equal(run.rows["preemptions"], run.slow.preemptions)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("lattice", [False, True])
def test_asked_routing_equals_the_oracle(lattice: bool, cached: bool) -> None:
    """Random systems, scripts of decisions, fresh and old loads; on a lattice of times events fall together."""
    routed = old = found = 0
    for seed in range(60):
        pick = dice(seed)
        case = make_case(pick, lattice, True, cached)
        script = [float(part) for answer in make_script(pick, case.config) for part in answer]
        age = [0.0, 0.5, 4.0, 1000.0][seed % 4]
        run = run_both(case, "scripted", age, script)
        try:
            assert_alike(run, 0.0 if lattice else 1e-9)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
        routed += len(np.unique(run.notes[:, 1]))
        old += int((run.notes[:, 5] > 0).sum())
        found += int((run.notes[:, 6] > 0).sum())
    assert routed > 500
    assert old > 500
    assert (found > 100) == cached
