"""LLMSchedRouter-v0: the same run as under a compiled routing policy; lanes, masks, refusals."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import llmsched_env  # noqa: F401  (registers the environment)
from llmsched.policies import parse
from llmsched.policies.routing import parse_routing
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.envs.router import LLMSchedRouterEnv, LLMSchedRouterVectorEnv
from llmsched_env.simulation.simulator import simulate

CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "old loads": {"load_age_s": 2.0},
    "no cache, one server": {"prefix_cache": "off", "shared_prefix": "none", "servers": 1, "rate": 8.0},
    "unlike servers, little memory": {
        "profile": "h100-80gb_llama2-70b_tp4:1,a100-80gb_llama2-70b_tp4:2",
        "kv_tokens": 9000,
        "rate": 4.0,
        "shared_prefix": "10:500:1",
    },
    "losses": {"patience_s": 2.0, "queue_cap": 6, "rate": 60.0},
}


def oldest_first(record, params, memory, rng):
    """What every server of the environment does."""
    return record.num_bins, record.max_batch


OLDEST_FIRST = compile_policy(oldest_first, cache=False)


def play(env: LLMSchedRouterEnv, routing: str, seed: int) -> list[float]:
    """An episode under a routing policy that answers from the environment's record; the rewards."""
    bound = parse_routing(routing)
    route, params, memory = bound.policy.route, bound.params, np.zeros(1)
    rng, over, rewards = np.random.default_rng(9), False, []
    env.reset(seed=seed)
    while not over:
        action = int(route(env._lanes.record[0][0], params, memory, rng))
        _, reward, terminated, truncated, _ = env.step(action)
        rewards.append(float(reward))
        over = terminated or truncated
    return rewards


@pytest.mark.parametrize("routing", ["least-outstanding", "prefix-load", "power-of-two"])
@pytest.mark.parametrize("case", CASES)
def test_environment_equals_compiled_run(case: str, routing: str) -> None:
    """The stamps of every request, bit for bit, and a return that is what the table counts."""
    env = LLMSchedRouterEnv(requests=200, **CASES[case])
    rewards = play(env, routing, seed=3)
    lane = env._lanes.simulator.lane[0]
    requests = env._lanes.episodes[0]
    requests.forget()
    drawn = requests.draw(np.random.default_rng(np.random.SeedSequence(3)))
    call = parse_routing(routing).call(np.random.default_rng(9))
    run = simulate(env.config, drawn, OLDEST_FIRST, route=call)
    env._lanes.simulator.finish()
    ours = env._lanes.simulator.requests[0][:200]
    for name in ("arrival", "dispatch", "first_token", "completion", "server", "status", "left", "preemptions"):
        np.testing.assert_array_equal(ours[name], run.requests[name], err_msg=name)
    metrics = env.episode_metrics()
    holding = float(lane["counts"]["holding"]) / 200
    assert sum(rewards) == pytest.approx(-(1.0 - metrics["slo_attainment"]) - 0.01 * holding, abs=1e-9)
    assert metrics["completed"] + sum(metrics.get(name, 0) for name in ("refused", "abandoned", "rejected")) == 200


@pytest.mark.parametrize("case", CASES)
def test_lane_i_is_the_scalar_environment_with_seed_plus_i(case: str) -> None:
    """Bit for bit, through the ends of episodes."""
    envs = LLMSchedRouterVectorEnv(3, threads=2, requests=30, **CASES[case])
    alone = [LLMSchedRouterEnv(requests=30, **CASES[case]) for _ in range(3)]
    seen, _ = envs.reset(seed=11)
    for i, env in enumerate(alone):
        np.testing.assert_array_equal(env.reset(seed=11 + i)[0], seen[i])
    rng, over = np.random.default_rng(0), [False] * 3
    for _ in range(70):
        actions = envs.action_space.sample() if case == "default" else rng.integers(0, envs.action_masks().shape[1], 3)
        seen, rewards, terminated, truncated, _ = envs.step(actions)
        for i, env in enumerate(alone):
            if over[i]:
                observation, reward, over[i] = env.reset()[0], 0.0, False
            else:
                observation, reward, ended, cut, _ = env.step(int(actions[i]))
                assert (ended, cut) == (terminated[i], truncated[i])
                over[i] = ended or cut
            np.testing.assert_array_equal(observation, seen[i])
            assert reward == rewards[i]
    envs.close()


def test_gymnasium_accepts_it() -> None:
    """The checker of Gymnasium, the spaces, and a copy that goes on alike."""
    env = gym.make("LLMSchedRouter-v0", requests=40)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.action_space == gym.spaces.Discrete(4)
    assert env.observation_space.shape == (6 + 6 * 4,)
    env.reset(seed=0)
    env.step(1)
    twin = copy.deepcopy(env)
    for server in (0, 3, 2, 2):
        for one, other in zip(env.step(server)[:4], twin.step(server)[:4], strict=True):
            np.testing.assert_array_equal(one, other)
    envs = gym.make_vec("LLMSchedRouter-v0", num_envs=2, requests=40)
    observations, _ = envs.reset(seed=0)
    assert observations.shape == (2, 30) and envs.unwrapped.action_masks().shape == (2, 4)  # type: ignore[attr-defined]
    envs.close()


def test_masks_and_answers_that_do_not_fit() -> None:
    """A server whose memory is too small is masked; named all the same, the next one gets the request."""
    env = LLMSchedRouterEnv(
        requests=200,
        profile="h100-80gb_llama2-70b_tp4:1,a100-80gb_llama2-70b_tp4:1",
        rate=2.0,
        shared_prefix="none",
        simulation=None,
    )
    env.reset(seed=1)
    assert env.action_masks().shape == (2,) and env.action_masks().all()
    small = env.config.servers[0], type(env.config.servers[1])(env.config.servers[1].profile, 400.0)
    tight = LLMSchedRouterEnv(requests=200, rate=2.0, simulation=dataclasses.replace(env.config, servers=small))
    _, over, counted, masked = tight.reset(seed=1), False, 0, 0
    while not over:
        masked += not tight.action_masks()[1]
        _, _, terminated, truncated, info = tight.step(1)
        counted += info["empty_choices"]
        over = terminated or truncated
    assert counted == masked > 0


@pytest.mark.parametrize("picture", ["rgb_array", "ansi"])
def test_it_can_be_drawn(picture: str) -> None:
    """As the other environments."""
    env = LLMSchedRouterEnv(picture, requests=30)
    env.reset(seed=0)
    for _ in range(20):
        env.step(2)
    assert env.render() is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"routing": "round-robin"}, "routing"),
        ({"action": "ladder"}, "action"),
        ({"refusals": "on"}, "refusals"),
        ({"engine": "batch"}, "engine"),
        ({"load_age_s": -1}, "load_age_s"),
        ({"load_age_s": float("nan")}, "load_age_s"),
    ],
)
def test_what_a_router_has_not_is_refused(given: dict[str, Any], said: str) -> None:
    """In one line."""
    with pytest.raises(ValueError) as caught:
        LLMSchedRouterEnv(**given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("action", [4, -1, 0.5, "1", None, [0, 1]])
def test_actions_that_are_no_server_are_refused(action: Any) -> None:
    """Before anything happens."""
    env = LLMSchedRouterEnv(requests=20)
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction):
        env.step(action)


def test_the_other_environments_cannot_ask_for_routes() -> None:
    """They say which one can."""
    with pytest.raises(ValueError, match="make LLMSchedRouter-v0"):
        gym.make("LLMSchedContinuous-v0", routing="asked")
    ready = parse("fcfs").routed(parse_routing("pull"))
    assert ready.label == "fcfs @ pull"
