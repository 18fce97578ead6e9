"""Runs with their batches logged, of a policy and of a list of decisions."""

from __future__ import annotations

import warnings
from pathlib import Path

from hypothesis import HealthCheck, settings

from llmsched.policies import parse
from llmsched_env.config import SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload import Workload, bin_edges
from tests.simulator.test_parity import COMPILED

ROOT = Path(__file__).resolve().parents[3]
COMMON = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
STAMPS = ("dispatch", "first_token", "last_token", "completion")
H100, BLOOM = load_profile("h100-80gb_llama2-70b_tp4"), load_profile("a100-80gb_bloom-176b_tp8")


def run(config: SimConfig, requests: Requests, policy: str, *, noise_key: int = 0) -> RunResult:
    """Simulate under a registered policy, batches logged, without the warning about D."""
    bound = parse(policy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ready = bound.ready(config)
        return simulate(ready.config, requests, ready.decide, log_batches=True, noise_key=noise_key, **ready.options)


def run_script(config: SimConfig, requests: Requests, answers: list[int]) -> RunResult:
    """Simulate under a list of decisions, batches logged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return simulate(config, requests, COMPILED["scripted"], params=answers, memory_size=1, log_batches=True)


def loaded(seed: int = 0, requests: int = 20_000, **options) -> tuple[Requests, tuple[int, ...]]:
    """Requests of the default workload and the edges of four bins."""
    workload = Workload(**{"source": "azure-conv", "requests": requests, "rate": 2.5, **options})
    return workload.draw(seed), bin_edges(workload, 4)
