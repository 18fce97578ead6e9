"""LLMSchedContinuous-v0: the engine `continuous` behind the same interface, scalar and vector."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import llmsched_env  # noqa: F401  (registers the environments)
from llmsched.policies import names, parse
from llmsched_env.config import SLO, Continuous, Queueing, Server, SimConfig
from llmsched_env.core.view import observation
from llmsched_env.envs.continuous import LLMSchedContinuousEnv
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate
from tests.envs.env_tools import LLAMA2_CONTINUOUS, box_of
from tests.envs.test_env_policies import A100, H100, compare, draw, drive

ID = "LLMSchedContinuous-v0"

SCENARIOS: dict[str, tuple[SimConfig, float]] = {
    "default": (SimConfig((Server(H100),) * 2, Queueing((80, 140, 350)), engine="continuous"), 10.0),
    "little memory, routed, unlike": (
        SimConfig(
            (Server(H100, 4000.0), Server(A100, 6000.0)),
            Queueing((140,)),
            max_batch=48,
            slos=(SLO(e2e_s=20.0, share=0.5), SLO(ttft_s=2.0, tpot_s=0.05, share=0.5, name="fast")),
            engine="continuous",
            continuous=Continuous(routing="least-outstanding", token_budget=200),
            overhead_s=0.002,
            horizon_s=60.0,
        ),
        4.0,
    ),
    "overdue, routed": (
        SimConfig(
            (Server(H100, 4000.0), Server(A100, 6000.0)),
            Queueing((80, 140), overdue_factor=1.0, hold_s=2.0),
            max_batch=48,
            slos=(SLO(e2e_s=10.0),),
            engine="continuous",
            continuous=Continuous(routing="round-robin", admission="prompt"),
        ),
        6.0,
    ),
    "prompts first, noise, timers": (
        SimConfig(
            (Server(dataclasses.replace(H100, noise_sigma=0.2)),) * 2,
            Queueing((80,), hold_s=1.5, tick_s=2.0),
            max_batch=24,
            engine="continuous",
            continuous=Continuous("prompt", "first"),
        ),
        6.0,
    ),
    "prefix cache": (
        SimConfig(
            (Server(H100, 4000.0), Server(A100, 6000.0)),
            Queueing((140,)),
            max_batch=48,
            engine="continuous",
            continuous=Continuous("prompt", scheduling="async", prefix_cache="on"),
        ),
        6.0,
    ),
}


def with_hashes(requests: Requests) -> Requests:
    """Prompts that begin with one of three texts of 192 tokens, as far as they are so long."""
    hashed = np.minimum(requests.prompt_tokens, 192).astype(np.int32)
    counts = -(-hashed // 64)
    texts = np.repeat(np.arange(len(requests)) % 3, counts)
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return dataclasses.replace(requests, hashes=10 * texts + places, hashed_tokens=hashed, hash_tokens=64)


REFUSED = {
    "oracle-srpt": ("overdue, routed", "prefix cache"),
    "vllm-priority": ("overdue, routed",),
    "vllm-residual-sjf": ("overdue, routed",),
}
"""Scenarios that a policy refuses."""


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        (name, scenario)
        for name in names("continuous")
        for scenario in SCENARIOS
        if scenario not in REFUSED.get(name, ())
    ],
)
def test_environment_equals_compiled_run(name: str, scenario: str) -> None:
    """Same decisions, same segments, same stamps, same controllers, bit for bit."""
    bound, (config, rate) = parse(name), SCENARIOS[scenario]
    requests = draw(config, rate)
    if scenario == "prefix cache":
        requests = with_hashes(requests)
    env = drive(bound, config, requests)
    simulator, lane = env._lanes.simulator, env._lanes.simulator.lane[0]
    key = int(lane["noise_key"])
    ready = bound.ready(config)
    run = simulate(ready.config, requests, ready.decide, **ready.options, log_batches=True, noise_key=key)
    assert run.counts["decisions"] == lane["counts"]["decisions"] > 5
    np.testing.assert_array_equal(simulator.log[0][: lane["counts"]["logged"]], run.batches)
    simulator.finish()
    compare(simulator.requests[0][:150], run.requests)
    compare(simulator.servers[0], run.servers)
    compare(simulator.bins[0], run.bins)
    compare(np.atleast_1d(lane), np.atleast_1d(run.lane))
    if run.pools is not None:
        compare(simulator.arrays.pools[0], run.pools)
        assert run.pools["cached"].sum() > 1000 or name == "network" or scenario != "prefix cache"


def some_actions(envs: gym.vector.VectorEnv, rng: np.random.Generator) -> np.ndarray:
    """Valid actions: a bin that has something to serve, any size."""
    masks = envs.action_masks()  # type: ignore[attr-defined]
    bins = envs.single_action_space.nvec[0]  # type: ignore[attr-defined]
    scores = rng.random((envs.num_envs, bins)) * masks[:, :bins]
    return np.stack([scores.argmax(axis=1), rng.integers(1, 40, envs.num_envs)], axis=1)


CACHED: dict[str, Any] = {
    "prefix_cache": "on",
    "bins": 1,
    "workload": with_hashes(draw(*SCENARIOS["prefix cache"]).part(0, 50)),
    "kv_tokens": 3000,
}


@pytest.mark.parametrize(
    "more",
    [{}, {"overdue_factor": 1.0, "slo": {"e2el": 6000}}, {"prefix_cache": "on"}, CACHED],
    ids=["", "overdue", "own blocks found", "hashes"],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_lane_equals_scalar(threads: int, more: dict) -> None:
    """Lane i is the scalar environment with seed + i, through the ends of episodes."""
    options = {"requests": 40, "kv_tokens": 6000, "rate": 6.0, "servers": 2, "max_batch": 64, **more}
    envs = gym.make_vec(ID, num_envs=3, threads=threads, **options)
    alone = [gym.make(ID, **options).unwrapped for _ in range(3)]
    images, _ = envs.reset(seed=5)
    for i, env in enumerate(alone):
        np.testing.assert_array_equal(env.reset(seed=5 + i)[0], images[i])
    rng, over, ended = np.random.default_rng(0), np.zeros(3, bool), 0
    for _ in range(400):
        actions = some_actions(envs, rng)
        images, rewards, terminated, truncated, _ = envs.step(actions)
        for i, env in enumerate(alone):
            if over[i]:
                step: tuple = (env.reset()[0], 0.0, False)
            else:
                step = env.step(actions[i])
            image, reward, done = step[:3]
            np.testing.assert_array_equal(image, images[i])
            assert (reward, done) == (rewards[i], terminated[i])
            over[i] = done
            ended += done
        assert not truncated.any()
    assert ended >= 3
    envs.close()


def test_gymnasium_checks_it_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    """Gymnasium's own checker, and the observation's names and bounds."""
    env = gym.make(ID, requests=30, prefix_cache="off")
    check_env(env.unwrapped, skip_render_check=True)
    assert [str(w.message) for w in recwarn] == []
    assert isinstance(env.unwrapped, LLMSchedContinuousEnv)
    names_ = [*observation.names(4), *(name for name, *_ in env.unwrapped._lanes.engine.entries)]
    assert len(names_) == box_of(env).shape[0] == 24 + 13 * 5 and len(set(names_)) == len(names_)
    assert names_[-4:] == ["running", "decoding", "kv_used", "prefill_left"]
    cached = gym.make(ID, requests=30)  # the rules of vLLM have the cache on
    check_env(cached.unwrapped, skip_render_check=True)
    assert box_of(cached).shape[0] == len(names_) + len(env.unwrapped._lanes.engine.cache_entries) == len(names_) + 3


def test_the_prefix_cache_is_seen() -> None:
    """Hits, kept blocks and the head's share move, everything stays in bounds, and the metrics tell of it."""
    env = gym.make(ID, **CACHED, servers=1)
    image, _ = env.reset(seed=3)
    seen, over = [image], False
    while not over:
        image, _, terminated, truncated, info = env.step((1, 60))
        assert env.observation_space.contains(image)
        seen.append(image)
        over = terminated or truncated
    last = np.array(seen)[:, -3:]
    assert (last.max(axis=0) > 0.1).all() and (last.min(axis=0) == 0.0).all()
    assert 0.1 < info["episode_metrics"]["prefix_cache_hit_rate"] < 1.0


def test_the_running_set_is_seen_and_the_return_is_what_was_promised() -> None:
    """The last four entries move, everything stays in bounds, and misses add up to 1 - attainment."""
    env = gym.make(ID, **{**LLAMA2_CONTINUOUS, "requests": 300, "rate": 14.0}, reward={"holding": 0.0})
    image, _ = env.reset(seed=3)
    seen, total, over = [image], 0.0, False
    while not over:
        image, reward, terminated, truncated, info = env.step((4, 200))
        assert env.observation_space.contains(image)
        seen.append(image)
        total += float(reward)
        over = terminated or truncated
    last = np.array(seen)[:, -4:]
    assert (last.max(axis=0) > 0.05).all() and (last.min(axis=0) == 0.0).all()
    attainment = info["episode_metrics"]["slo_attainment"]
    assert total == pytest.approx(attainment - 1.0, abs=1e-9) and attainment < 1.0


def test_another_engine_is_refused() -> None:
    """The id says which engine it is."""
    with pytest.raises(ValueError, match="engine='batch' is not allowed here: make LLMSched-v0"):
        LLMSchedContinuousEnv(engine="batch")
    with pytest.raises(ValueError, match="knows no iterations"):
        LLMSchedContinuousEnv(profile="synthetic")
    env = gym.make("LLMSched-v0", engine="continuous", max_batch=64).unwrapped
    assert isinstance(env, LLMSchedEnv) and env.config.engine == "continuous"


def test_pictures_show_running_sets() -> None:
    """Members of every bin are drawn while they run, and nothing before they came."""
    env = gym.make(ID, render_mode="rgb_array", requests=200).unwrapped
    assert isinstance(env, LLMSchedContinuousEnv)
    env.reset(seed=0)
    blank = env.picture(0.0)
    for _ in range(250):
        _, _, terminated, _, info = env.step((4, 256))
        if terminated:
            break
    full = env.picture()
    assert full.shape == (720, 1280, 3) and math.isfinite(info["time_s"])
    servers = slice(118, 400)
    assert len(np.unique(full[servers].reshape(-1, 3), axis=0)) > len(np.unique(blank[servers].reshape(-1, 3), axis=0))
    ansi = gym.make(ID, render_mode="ansi", requests=50).unwrapped
    ansi.reset(seed=0)
    assert "bin 0" in str(ansi.render())
