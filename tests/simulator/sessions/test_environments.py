"""Sessions and closed loops in the environments: the run that the simulator makes, and episodes of their own."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest

from llmsched.policies import parse
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload import Workload
from tests.envs.env_tools import assert_equal, rollout
from tests.envs.test_env_policies import A100, H100, compare, drive

QUEUEING = Queueing((80, 140), patience_s=30.0, queue_cap=30, hold_s=2.0)
SLOS = (SLO(e2e_s=20.0, share=0.5), SLO(ttft_s=4.0, share=0.5, name="fast"))


def chains(clients: int) -> Requests:
    """150 requests in sessions of five, some of which are trees."""
    requests = Workload("azure-conv", requests=150, rate=6.0, slo_shares=(0.5, 0.5)).draw(5)
    rows = np.arange(150)
    parent = np.where(rows % 5 == 0, -1, np.where(rows % 5 == 3, rows - 2, rows - 1))
    think = np.random.default_rng(0).exponential(1.0, 150)
    return dataclasses.replace(requests, parent=parent, think_s=think, concurrency=clients)


@pytest.mark.parametrize("clients", [0, 12])
@pytest.mark.parametrize(("engine", "name"), [("batch", "multibin"), ("batch", "timeout"), ("continuous", "sarathi")])
def test_environment_equals_compiled_run(engine: str, name: str, clients: int) -> None:
    """Same decisions, same arrivals, same stamps, bit for bit."""
    config = SimConfig((Server(H100, 6000.0), Server(A100)), QUEUEING, slos=SLOS, engine=engine)
    requests, bound = chains(clients), parse(name)
    env = drive(bound, config, requests)
    simulator, ready = env._lanes.simulator, bound.ready(config)
    run = simulate(ready.config, requests, ready.decide, **ready.options)
    assert run.counts["decisions"] == simulator.lane[0]["counts"]["decisions"] > 5
    simulator.finish()
    compare(simulator.requests[0][:150], run.requests)
    compare(simulator.servers[0], run.servers)
    assert (run.requests["arrival"] != np.sort(requests.arrival_s)).any()


OPTIONS: dict[str, dict[str, Any]] = {
    "closed loop": {"concurrency": 20, "think": "exp:2"},
    "sessions": {"workload": "coding-agent", "rate": 0.5, "bins": (0, 200, 500)},
    "clients with sessions": {"workload": "coding-agent", "concurrency": 3, "bins": (0, 200, 500)},
}


@pytest.mark.parametrize("env_id", ["LLMSched-v0", "LLMSchedContinuous-v0"])
@pytest.mark.parametrize("case", OPTIONS)
def test_episodes_of_sessions(env_id: str, case: str) -> None:
    """The same seed gives the same episode, another seed another; all requests are sent and end."""
    env = gym.make(env_id, requests=60, **OPTIONS[case])
    first = rollout(env, 3)
    assert_equal(first, rollout(env, 3))
    last = first[-1][4]
    assert first[-1][2]
    lanes = cast(LLMSchedEnv, env.unwrapped)._lanes
    assert lanes.simulator.lane[0]["linked"]
    assert lanes.simulator.lane[0]["next_arrival"] == 60, last
    assert not np.array_equal(first[-1][0], rollout(env, 4)[-1][0])


def test_lanes_of_a_vector_environment_are_apart() -> None:
    """Two lanes with the same seed make the same steps."""
    envs = LLMSchedVectorEnv(2, requests=60, concurrency=20, think="exp:2")
    observation, _ = envs.reset(seed=[5, 5])
    for _ in range(40):
        np.testing.assert_array_equal(observation[0], observation[1])
        observation, *_ = envs.step(np.array([[0, 8], [0, 8]]))
