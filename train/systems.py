"""The systems that learned schedulers are trained on: servers, workloads and latency targets, each at several loads.

A rate is given as a load: a multiple of the highest rate at which first come first served, with the best fixed batch
size, keeps the target of 95 % of the requests.  (``--load`` of the experiments means the same, from more requests.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import Bound, parse
from llmsched.policies.rules.grids import BATCHES
from llmsched_env.config import SLO, Queueing, SimConfig
from llmsched_env.core.layout import DECIDE
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.servers import parse_servers
from llmsched_env.simulation.metrics import seen_by_clients
from llmsched_env.simulation.simulator import Simulator
from llmsched_env.simulation.threshold import RateSearch, run_alone
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.targets import FACTOR, alone_target_s
from llmsched_env.workload.workload import Workload

TRAINING_SEED = 1_000_000
"""First seed of the arrivals that weights are trained on.  Choices are made on seeds from 0 of the split "validation",
results come from the split "test"."""

ATTAINMENT = 0.95
"""A rate is within capacity when this share of the requests meets its target."""

PRECISION = 0.02
"""Relative precision of a capacity."""

PROBE_REQUESTS = 4_000
"""Requests of every run that a capacity is searched with."""


@dataclass(frozen=True)
class TrainingSystem:
    """A system to schedule, without its load."""

    profile: str = "h100-80gb_llama2-70b_tp4"
    servers: int = 4
    workload: str = "azure-conv"
    bins: int = 4
    factor: float = FACTOR  # E2E target / p99 of the time of a request served alone
    burstiness: float | None = None
    predictor: str = "noisy:0.3"
    max_batch: int = 128
    engine: ClassVar[str] = "batch"

    @property
    def name(self) -> str:
        """A short text that tells it from the other systems."""
        parts = [self.profile, f"{self.servers}s", self.workload, f"{self.bins}b", f"x{self.factor:g}"]
        return " ".join(parts + ([f"k{self.burstiness:g}"] if self.burstiness is not None else []))

    @cached_property
    def slo(self) -> SLO:
        """The targets that every request should meet."""
        return SLO(e2e_s=self.target_s)

    @cached_property
    def target_s(self) -> float:
        """E2E target in seconds."""
        return alone_target_s(load_profile(self.profile), self.workload, self.factor)

    def arrivals(self, rate: float, requests: int) -> Workload:
        """The law of ``requests`` requests that arrive at ``rate`` requests/s."""
        return Workload(
            self.workload, requests=requests, rate=rate, burstiness=self.burstiness, predictor=self.predictor
        )

    @cached_property
    def config(self) -> SimConfig:
        """The configuration of the simulator, before a policy adapts it."""
        return SimConfig(
            servers=parse_servers(self.profile, self.servers),
            queueing=Queueing(bin_edges(self.arrivals(1.0, 2), self.bins)),
            max_batch=self.max_batch,
            slos=(self.slo,),
            engine=self.engine,
        )

    @property
    def reference_policies(self) -> list[Bound]:
        """The policies whose capacity, the best of them, is a load of 1."""
        return [parse(f"static:batch={batch}") for batch in BATCHES if batch <= self.max_batch]

    @cached_property
    def capacity(self) -> float:
        """The rate (requests/s) that is a load of 1; ``ValueError`` where no rate is just within capacity."""
        policies, simulator = self.reference_policies, ReusedSimulator(self.config, PROBE_REQUESTS)

        def keeps(rate: float) -> bool:
            drawn = self.arrivals(rate, PROBE_REQUESTS).draw(TRAINING_SEED, "validation")
            return any(simulator.misses(policy, drawn) <= 1.0 - ATTAINMENT for policy in policies)

        search = RateSearch(self.servers / self.target_s, PRECISION)
        run_alone(search, keeps)
        if search.low is None or search.high is None:
            found = "every rate keeps" if search.high is None else "no rate keeps"
            raise ValueError(f"{self.name}: {found} the target of {ATTAINMENT:.0%}: choose another target factor.")
        return search.low


class ReusedSimulator:
    """A simulator of one system that runs many policies and arrivals, up to ``capacity`` requests a run."""

    def __init__(self, config: SimConfig, capacity: int) -> None:
        self.config, self._capacity = config, capacity
        self._simulators: dict[SimConfig, Simulator] = {}  # by the configuration that a policy makes of it

    def run(self, policy: Bound, requests: Requests, params: NDArray[np.float64] | None = None) -> NDArray:
        """The REQUEST rows of ``requests`` after all were served, valid until the next run.

        ``params`` (P,) takes the place of the policy's own numbers.
        """
        ready = policy.ready(self.config)
        if ready.config not in self._simulators:
            self._simulators[ready.config] = Simulator(ready.config, self._capacity)
        simulator = self._simulators[ready.config]
        simulator.load(0, requests)
        status = simulator.run(
            ready.decide,
            ready.params if params is None else params,
            np.zeros(max(1, ready.memory_size)),
            np.random.default_rng(0),
            details=ready.details,
        )
        assert status != DECIDE
        return simulator.finish(until=math.inf)

    def misses(
        self, policy: Bound, requests: Requests, params: NDArray[np.float64] | None = None, first: int = 0
    ) -> float:
        """Share of ``requests``, from number ``first`` on, that missed a target."""
        rows = self.run(policy, requests, params)[first:]
        _, met = seen_by_clients(rows, self.config)
        return 1.0 - float(np.mean(met))


RECENT = "h100/gpt-oss-120b/vllm/fp4-tp2-0.18.0"
"""The profile of the scenario `default`."""

TIGHT = 1.58
"""Its target of 4 s, as a factor of the p99 of a request of azure-conv served alone there."""


def recent_systems() -> list[TrainingSystem]:
    """Systems of GPUs, models and engines of 2025 and 2026, most of them with tight targets."""

    def make(profile: str = RECENT, factor: float = TIGHT, **others: Any) -> TrainingSystem:
        return TrainingSystem(profile=profile, factor=factor, **others)

    return [
        make(),
        make(factor=1.3),
        make(factor=FACTOR),
        make(servers=1),
        make(servers=2, bins=8),
        make(servers=16),
        make(bins=8),
        make(workload="azure-code"),
        make(workload="burstgpt"),
        make(burstiness=0.5),
        make(burstiness=1.0),
        make(predictor="oracle", bins=2, servers=8),
        make(profile="h100/llama-3.1-70b/vllm/fp8-tp4-unknown"),
        make(profile="h200/gpt-oss-120b/vllm/fp4-tp2-0.18.0", servers=8),
        make(profile="h100/qwen3-32b/vllm/unstated-tp4-0.12.0", servers=2),
        make(profile="h200/deepseek-v3/sglang/fp8-tp8-0.5.9"),
        make(profile="b200/gpt-oss-120b/trtllm/fp4-tp1-1.2.0rc2.post2", servers=16),
        make(profile="b200/llama-3.1-70b/vllm/fp8-tp2-unknown", servers=1, factor=FACTOR),
    ]


def training_systems() -> list[TrainingSystem]:
    """The systems to train on.  Left out, for tests: some profiles, the lengths of Mooncake, all traces."""
    return [*recent_systems(), *systems_of_2023()]


def systems_of_2023() -> list[TrainingSystem]:
    """Systems of the profiles of 2023."""
    make = TrainingSystem
    return [
        make(),
        make(factor=1.75),
        make(servers=1),
        make(servers=16),
        make(servers=2, bins=8),
        make(workload="azure-code"),
        make(predictor="oracle"),
        make(profile="a100-80gb_llama2-70b_tp4"),
        make(profile="h100-80gb_llama2-70b_tp8", servers=1),
        make(profile="a100-80gb_bloom-176b_tp8"),
        make(profile="h100-80gb_bloom-176b_tp8", servers=8),
        make(profile="peer-qwen3-1.7b-rtx4080"),
        make(profile="synthetic", servers=1),
        make(profile="amd-epyc-1-thread_tiny", servers=2),
    ]
