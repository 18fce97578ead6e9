"""Agents that nobody trained, the scenarios they decide in, and an environment driven by hand beside a compiled run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import parse
from llmsched.policies.agent import checkpoint
from llmsched.policies.agent.checkpoint import Agent
from llmsched.policies.agent.fit import face_of
from llmsched_env.config import SLO, Continuous, Queueing, Server, SimConfig
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from tests.envs.test_env_continuous import with_hashes
from tests.envs.test_env_policies import A100, H100, draw

SCENARIOS: dict[str, tuple[SimConfig, float, int]] = {  # the arrival rate, requests/s; bins that the agent knows
    "batch": (SimConfig((Server(H100),) * 3, Queueing((80, 140, 350)), max_batch=12), 2.5, 4),
    "batch, refusals": (SimConfig((Server(H100),), Queueing((80, 140, 350), refusals="on"), max_batch=12), 2.5, 4),
    "batch, more bins, overdue, no target": (
        SimConfig(
            (Server(H100, 2600.0), Server(A100, 5000.0)),
            Queueing((80, 140), overdue_factor=1.0, hold_s=2.0),
            max_batch=24,
            slos=(SLO(tpot_s=0.1),),
        ),
        1.5,
        6,
    ),
    "batch, overdue": (
        SimConfig(
            (Server(H100, 2600.0), Server(A100, 5000.0)),
            Queueing((80, 140), overdue_factor=1.0, overdue_batch_factor=0.75),
            max_batch=16,
            slos=(SLO(e2e_s=15.0),),
        ),
        2.0,
        3,
    ),
    "continuous, overdue": (
        SimConfig(
            (Server(H100, 4000.0), Server(A100, 6000.0)),
            Queueing((80, 140), overdue_factor=1.0, hold_s=2.0),
            max_batch=20,
            slos=(SLO(e2e_s=10.0),),
            engine="continuous",
            continuous=Continuous(routing="round-robin", admission="prompt"),
        ),
        6.0,
        5,
    ),
    "continuous, prefix cache": (
        SimConfig(
            (Server(H100, 4000.0), Server(A100, 6000.0)),
            Queueing((140,)),
            max_batch=48,
            slos=(SLO(ttft_s=2.0, tpot_s=0.1),),
            engine="continuous",
            continuous=Continuous("prompt", scheduling="async", prefix_cache="on"),
        ),
        6.0,
        2,
    ),
}


ABOUT: dict[str, Any] = {
    "activation": "tanh",
    "kind": "logits",
    "masked": True,
    "algorithm": "none",
    "source": {},
}
"""What a checkpoint says besides its spaces and its layers."""


def requests_of(scenario: str) -> Requests:
    """150 requests, with common beginnings where there is a prefix cache."""
    config, rate, _ = SCENARIOS[scenario]
    drawn = draw(config, rate)
    return with_hashes(drawn) if "cache" in scenario else drawn


def random_agent(path: Path, config: SimConfig, action: str = "ladder", **about: Any) -> Agent:
    """An agent of random weights, saved at ``path``; ``about`` may have ``bins``, ``hidden``, ``seed`` too."""
    rng, hidden = np.random.default_rng(about.pop("seed", 0)), about.pop("hidden", (16, 12))
    face = face_of(config, {}, action)
    face = type(face)(face.engine, action, type(face.limits)(**{**vars(face.limits), **_bins(about)}))
    widths = [face.inputs, *hidden, sum(face.parts)]
    layers = [
        (2.0 * rng.standard_normal((after, before)).astype(np.float32), 0.1 * rng.standard_normal(after))
        for before, after in zip(widths[:-1], widths[1:], strict=True)
    ]
    layers[0] = (layers[0][0], -layers[0][0] @ np.linspace(0.1, 0.4, face.inputs))  # inputs matter more than biases
    return checkpoint.save(path, face, layers, **{**ABOUT, **about})


def _bins(about: dict[str, Any]) -> Mapping[str, int]:
    return {"max_bins": about.pop("bins")} if "bins" in about else {}


def plain_action(agent: Agent, observation: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[int]:
    """What the agent answers, computed with NumPy: one number for every part of the action."""
    units, last = observation.astype(np.float64), len(agent.layers) - 2
    for n in range(last + 1):
        units = agent.arrays[f"weight{n}"] @ units + agent.arrays[f"bias{n}"]
        if n < last:
            units = np.tanh(units) if agent.about["activation"] == "tanh" else np.maximum(units, 0.0)
    if agent.about["masked"]:
        units = np.where(mask, units, -np.inf)
    return [int(np.argmax(part)) for part in np.split(units, np.cumsum(agent.face.parts)[:-1])]


def drive(
    act: Callable[[NDArray[np.float32], NDArray[np.bool_]], Any],
    config: SimConfig,
    requests: Requests,
    action: str,
    bins: int,
) -> LLMSchedEnv:
    """An episode of the environment of ``config`` under ``act``."""
    edges = (0, *config.queueing.edges)
    env = LLMSchedEnv("ansi", simulation=config, requests=len(requests), bins=edges, max_bins=bins, action=action)
    observation, _ = env.reset(seed=0, options={"requests": requests})
    over = False
    while not over:
        observation, _, terminated, truncated, _ = env.step(act(observation, env.action_masks()))
        over = terminated or truncated
    return env


def compiled(text: str, config: SimConfig, requests: Requests, env: LLMSchedEnv) -> RunResult:
    """The policy ``text`` in the compiled simulator, with the noise of ``env``."""
    ready = parse(text).ready(config)
    key = int(env._lanes.simulator.lane[0]["noise_key"])
    return simulate(ready.config, requests, ready.decide, **ready.options, log_batches=True, noise_key=key)


def check_equal(env: LLMSchedEnv, run: RunResult) -> None:
    """The same decisions: the same batches or segments, the same stamps, bit for bit."""
    simulator = env._lanes.simulator
    counts = simulator.lane[0]["counts"]
    assert run.counts["decisions"] == counts["decisions"] > 5
    np.testing.assert_array_equal(simulator.log[0][: counts["logged"]], run.batches)
    rows = simulator.finish()
    for name in ("dispatch", "first_token", "last_token", "completion", "status"):
        np.testing.assert_array_equal(rows[name], run.requests[name])
