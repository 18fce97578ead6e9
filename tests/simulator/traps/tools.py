"""A run under a registered policy, as all traps make it."""

from __future__ import annotations

import math

from llmsched.policies import parse
from llmsched_env.config import SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate

INF = math.inf
H100, IDEAL = load_profile("h100-80gb_llama2-70b_tp4"), load_profile("ideal")


def run(config: SimConfig, requests: Requests, policy: str) -> RunResult:
    """Simulate under a registered policy, batches logged."""
    bound = parse(policy)
    ready = bound.ready(config)
    return simulate(ready.config, requests, ready.decide, log_batches=True, **ready.options)
