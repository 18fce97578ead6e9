"""What learned schedulers are trained on: servers, workloads and latency targets, each at several loads.

Rates are given as loads: multiples of the highest rate at which first come first served, with the best fixed batch,
keeps the target of 95 % of the requests (what ``--load`` means elsewhere, from fewer requests).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import Bound, parse
from llmsched_env.config import SLO, Queueing, SimConfig
from llmsched_env.core.layout import DECIDE
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.servers import parse_servers
from llmsched_env.simulation.metrics import measure, targets_of
from llmsched_env.simulation.simulator import Simulator, finish
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.targets import FACTOR, alone_target_s
from llmsched_env.workload.workload import Workload

TRAINING_SEED = 1_000_000
"""First seed of the arrivals that are trained on; those of the split "validation" that choices are made on begin at
0, and results come from the split "test"."""

BATCHES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
ATTAINMENT, PRECISION, PROBE = 0.95, 0.02, 4_000
"""What counts as within capacity, to which relative precision it is sought, and on how many requests."""


@dataclass(frozen=True)
class Course:
    """A system to schedule, without its load."""

    profile: str = "h100-80gb_llama2-70b_tp4"
    servers: int = 4
    workload: str = "azure-conv"
    bins: int = 4
    factor: float = FACTOR  # E2E target: so many times the p99 of a request served alone
    burstiness: float | None = None
    predictor: str = "noisy:0.3"
    max_batch: int = 128
    engine: ClassVar[str] = "batch"

    @property
    def name(self) -> str:
        """One word that tells it from the others."""
        parts = [self.profile, f"{self.servers}s", self.workload, f"{self.bins}b", f"x{self.factor:g}"]
        return " ".join(parts + ([f"k{self.burstiness:g}"] if self.burstiness is not None else []))

    @cached_property
    def slo(self) -> SLO:
        """What every request should meet."""
        return SLO(e2e_s=self.target_s)

    @cached_property
    def target_s(self) -> float:
        """E2E target."""
        return alone_target_s(load_profile(self.profile), self.workload, self.factor)

    def arrivals(self, rate: float, requests: int) -> Workload:
        """The law of the requests at ``rate`` requests/s."""
        return Workload(
            self.workload, requests=requests, rate=rate, burstiness=self.burstiness, predictor=self.predictor
        )

    @cached_property
    def config(self) -> SimConfig:
        """The simulation."""
        return SimConfig(
            servers=parse_servers(self.profile, self.servers),
            queueing=Queueing(bin_edges(self.arrivals(1.0, 2), self.bins)),
            max_batch=self.max_batch,
            slos=(self.slo,),
            engine=self.engine,
        )

    def world(self, capacity: int) -> World:
        """A simulator of it, for up to ``capacity`` requests."""
        return World(self.config, capacity)

    @property
    def reference(self) -> list[Bound]:
        """Whose capacity is a load of 1."""
        return [parse(f"static:batch={batch}") for batch in BATCHES if batch <= self.max_batch]

    @cached_property
    def capacity(self) -> float:
        """Rate (requests/s) that a load of 1 stands for."""
        rivals, world = self.reference, self.world(PROBE)

        def keeps(rate: float) -> bool:
            drawn = self.arrivals(rate, PROBE).draw(TRAINING_SEED, "validation")
            return any(world.misses(rival, drawn) <= 1.0 - ATTAINMENT for rival in rivals)

        low, high = 0.0, math.inf
        rate = self.servers / self.target_s
        while low == 0.0 or math.isinf(high):
            if keeps(rate):
                low, rate = rate, 2.0 * rate
            else:
                high, rate = rate, rate / 2.0
            if not 1e-6 < rate < 1e6:
                raise ValueError(f"{self.name}: no rate is just within capacity; choose another target.")
        while high > (1.0 + PRECISION) * low:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if keeps(middle) else (low, middle)
        return low


class World:
    """A simulator that is used again and again."""

    def __init__(self, config: SimConfig, capacity: int) -> None:
        self.plain, self._capacity = config, capacity
        self._made: dict[SimConfig, Simulator] = {}

    def run(self, policy: Bound, requests: Requests, params: NDArray[np.float64] | None = None) -> NDArray:
        """The REQUEST rows after all was served (valid until the next run); ``params`` in place of the policy's."""
        ready = policy.ready(self.plain)
        if ready.config not in self._made:
            self._made[ready.config] = Simulator(ready.config, self._capacity)
        simulator = self._made[ready.config]
        simulator.load(0, requests)
        status = simulator.run(
            ready.decide,
            ready.params if params is None else params,
            np.zeros(max(1, ready.memory_size)),
            np.random.default_rng(0),
            details=ready.details,
        )
        assert status != DECIDE
        rows = simulator.requests[0][: len(requests)]
        finish(rows, simulator.servers[0], math.inf)
        return rows

    def misses(self, policy: Bound, requests: Requests, params: NDArray[np.float64] | None = None) -> float:
        """Share of the requests that missed a target."""
        rows = self.run(policy, requests, params)
        _, met = measure(rows, targets_of(self.plain.slos))
        return 1.0 - float(np.mean(met))


def train_courses() -> list[Course]:
    """What is trained on.  Left out, to be tested on: two profiles, Mooncake's lengths, all traces."""
    seventy, bloom = "h100-80gb_llama2-70b_tp4", "a100-80gb_bloom-176b_tp8"
    return [
        Course(),
        Course(factor=1.75),
        Course(servers=1),
        Course(servers=16),
        Course(servers=2, bins=8),
        Course(workload="azure-code"),
        Course(workload="burstgpt"),
        Course(bins=1),
        Course(bins=2, servers=8),
        Course(burstiness=0.5),
        Course(burstiness=1.0, servers=1),
        Course(predictor="oracle"),
        Course(profile="a100-80gb_llama2-70b_tp4"),
        Course(profile="h100-80gb_llama2-70b_tp8", servers=1),
        Course(profile=bloom),
        Course(profile="h100-80gb_bloom-176b_tp8", servers=8),
        Course(profile="h100_llama2-7b_tp1-gemm"),
        Course(profile="a100_llama3-8b_tp1-gemm", servers=16),
        Course(profile="h100_llama2-70b_tp4-gemm", servers=2),
        Course(profile="peer-qwen3-1.7b-rtx4080"),
        Course(profile="synthetic", servers=1),
        Course(profile="ideal"),
        Course(profile="amd-epyc-1-thread_tiny", servers=2),
        Course(profile=seventy, servers=4, workload="poisson"),
    ]
