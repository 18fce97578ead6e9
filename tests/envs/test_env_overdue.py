"""The overdue queue stands beside the bins: a policy that walks the bins never meets it, and an agent may choose it by
its own number.  And an agent that may refuse: spaces, masks, what the action does, and what it costs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched_env.core import layout
from llmsched_env.core.constants import BY_SCHEDULER
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.envs.continuous import LLMSchedContinuousEnv
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate
from tests.envs.env_tools import LLAMA2, valid_action

LATE: dict[str, Any] = {
    **LLAMA2,
    "overdue_factor": 2.0,
    "servers": 1,
    "rate": 5.0,
    "requests": 300,
    "slo": {"e2el": 20_000},
}


def mine(record: Any) -> tuple[int, int]:
    """The policy of the README's next steps: it walks the bins and knows of no overdue queue."""
    oldest = 0
    for k in range(int(record["num_bins"])):
        if record["head_arrival"][k] < record["head_arrival"][oldest]:
            oldest = k
    return oldest, max(1, int(record["target"][oldest]) // 2)


def in_queues(env: LLMSchedEnv) -> tuple[int, int]:
    """Requests that wait in bins, and in the overdue queue, counted from their rows."""
    rows = env._lanes.simulator.requests[0]
    waiting = rows["status"] == layout.WAITING
    return int((waiting & (rows["overdue"] == 0)).sum()), int((waiting & (rows["overdue"] == 1)).sum())


def test_a_policy_that_walks_the_bins_serves_overdue_requests_last() -> None:
    """No batch holds an overdue request while a bin holds one, and in the end all are served."""
    env = LLMSchedEnv("ansi", **LATE)
    env.reset(seed=0)
    over, overdue_batches, beside = False, 0, 0
    while not over:
        in_bins, overdue = in_queues(env)
        beside += in_bins > 0 and overdue > 0
        before = env._lanes.simulator.requests[0]["dispatch"].copy()
        logged = int(env._lanes.simulator.lane[0]["counts"]["logged"])
        _, _, over, _, info = env.step(mine(env.record))
        rows = env._lanes.simulator.requests[0]
        if int(env._lanes.simulator.lane[0]["counts"]["logged"]) > logged:
            started = rows[np.isnan(before) & (rows["batch"] == logged)]
            assert in_bins == 0 or not started["overdue"].any()
            overdue_batches += bool(started["overdue"].any())
    assert beside > 5 and overdue_batches > 0
    assert info["episode_metrics"]["completed"] == 300


@pytest.mark.parametrize("action", ["multidiscrete", "ladder"])
def test_one_choice_and_one_block_more_only_where_there_is_the_queue(action: str) -> None:
    """The spaces grow by the overdue queue alone; `any` keeps its number."""
    plain, with_queue = LLMSchedEnv(action=action), LLMSchedEnv(action=action, overdue_factor=2.0)
    assert with_queue.observation_space.shape[0] - plain.observation_space.shape[0] == 13  # type: ignore[index]
    if action == "ladder":
        rungs = 9
        assert with_queue.action_space.n - plain.action_space.n == rungs  # type: ignore[attr-defined]
    else:
        sizes = [env.action_space.nvec.tolist() for env in (plain, with_queue)]  # type: ignore[attr-defined]
        assert sizes == [[5, 129], [6, 129]]


def test_the_queue_is_masked_while_others_wait_and_served_when_chosen() -> None:
    """Its mask is set only where it alone holds requests; its choice serves it beside others all the same."""
    env = LLMSchedEnv("ansi", **LATE)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    over, alone, served = False, 0, 0
    while not over:
        in_bins, overdue = in_queues(env)
        assert env.action_masks()[5] == (overdue > 0 and in_bins == 0)
        alone += overdue > 0 and in_bins == 0
        action = valid_action(env, rng)
        if in_bins > 0 and overdue > 0 and served < 5:
            action, served = (5, 4), served + 1
            logged = int(env._lanes.simulator.lane[0]["counts"]["logged"])
            _, _, over, _, info = env.step(action)
            batch = env._lanes.simulator.log[0][logged]
            rows = env._lanes.simulator.requests[0]
            assert batch["choice"] == 5 and info["empty_choices"] == 0
            assert rows["overdue"][rows["batch"] == logged].all() and batch["size"] == min(4, overdue)
            continue
        _, _, over, _, _ = env.step(action)
    assert alone > 0 and served == 5


def test_an_empty_overdue_queue_means_any_and_is_counted() -> None:
    """As an empty bin."""
    results = []
    for choice in (5, 4):
        env = LLMSchedEnv(overdue_factor=2.0, requests=20)
        env.reset(seed=1)
        results.append(env.step((choice, 3)))
    assert results[0][4]["empty_choices"] == 1 and results[1][4]["empty_choices"] == 0
    np.testing.assert_array_equal(results[0][0], results[1][0])


@pytest.mark.parametrize("name", ["longest-queue", "least-slack", "weighted-queue", "multibin", "multibin-fixed"])
def test_rules_over_bins_serve_it_when_the_bins_are_empty(name: str) -> None:
    """Driven on the record of the environment, to the end."""
    env = LLMSchedEnv("ansi", **{**LATE, "requests": 150})
    ready = parse(f"{name}:overdue=2").ready(env.config)
    memory, rng, over = np.zeros(max(1, ready.memory_size)), np.random.default_rng(0), False
    env.reset(seed=0)
    own = 0
    while not over:
        in_bins, overdue = in_queues(env)
        choice, size = ready.decide(env.record, np.asarray(ready.params), memory, rng)
        if size > 0:
            assert (choice == 5) == (in_bins == 0)
            own += choice == 5
        _, _, over, _, info = env.step((choice, size))
    assert own > 0 and info["episode_metrics"]["completed"] == 150


def test_the_earlier_name_of_tardiness_works_and_warns() -> None:
    """In both environments; given twice it is refused."""
    with pytest.warns(UserWarning, match="the reward term late is now called tardiness"):
        old = LLMSchedEnv(reward={"late": 0.5, "miss": 2.0}, requests=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = LLMSchedEnv(reward={"tardiness": 0.5, "miss": 2.0}, requests=20)
    assert old.options == new.options
    with pytest.warns(UserWarning, match="tardiness"):
        LLMSchedVectorEnv(2, reward={"late": 0.5}, requests=20)
    with pytest.raises(ValueError, match="given twice"):
        LLMSchedEnv(reward={"late": 0.5, "tardiness": 0.1})


# ---- an agent that may refuse

REFUSING: dict[str, Any] = {
    "refusals": "on",
    "servers": 1,
    "rate": 6.0,
    "requests": 120,
    "bins": (0, 64, 256),
    "max_batch": 8,
}
ENVS = (LLMSchedEnv, LLMSchedContinuousEnv)


@compile_policy
def picky(record, params, memory, rng):
    """Refuse the head of the longest bin while more than 20 wait, else serve all."""
    if record.waiting <= 20:
        return record.num_bins, record.max_batch
    longest = 0
    for k in range(record.num_bins):
        if record.queue_length[k] > record.queue_length[longest]:
            longest = k
    return longest, -1


@pytest.mark.parametrize("action", ["multidiscrete", "ladder"])
def test_one_size_more_only_where_the_agent_may_refuse(action: str) -> None:
    """The last size, or the last rung of a choice; the observation is the same."""
    plain, refusing = (LLMSchedEnv(action=action, bins=4, refusals=word) for word in ("off", "on"))
    assert plain.observation_space == refusing.observation_space
    if action == "ladder":
        assert refusing.action_space.n - plain.action_space.n == 5  # type: ignore[attr-defined]
    else:
        sizes = [env.action_space.nvec.tolist() for env in (plain, refusing)]  # type: ignore[attr-defined]
        assert sizes == [[5, 129], [5, 130]]


@pytest.mark.parametrize("make", ENVS)
@pytest.mark.parametrize("action", ["multidiscrete", "ladder"])
def test_the_first_request_of_the_choice_is_refused_and_is_a_miss_at_once(make: type, action: str) -> None:
    """It alone changes; the same server is asked again at the same instant; the reward is a miss."""
    env = make("ansi", action=action, reward={"miss": 1.0, "holding": 0.0}, **REFUSING)
    env.reset(seed=0)
    rng, refused, over = np.random.default_rng(0), 0, False
    while not over:
        record, number = env.record, 3
        k = int(np.argmax(record["queue_length"][:number]))
        if record["queue_length"][k] < 2 or refused >= 20:
            _, _, over, _, info = env.step(valid_action(env, rng))
            continue
        first = int(record["head_number"][k])
        rows, now, server = env._lanes.simulator.requests[0], float(record["now"]), int(record["server"])
        missed = rows["missed"][first]
        rungs = len(env._lanes._ladder)
        chosen = rungs * (k + 1) if action == "ladder" else (k, env.config.max_batch + 1)
        _, reward, over, _, info = env.step(chosen)
        assert rows["status"][first] == layout.REFUSED and rows["reason"][first] == BY_SCHEDULER
        assert rows["left"][first] == now == float(env.record["now"]) and int(env.record["server"]) == server
        assert reward == (0.0 if missed else -1 / 120)
        refused += 1
    counts = env._lanes.simulator.lane[0]["counts"]
    assert info["episode_metrics"]["refused"] == counts["refused"] >= refused > 10


@pytest.mark.parametrize("make", ENVS)
def test_a_policy_that_refuses_makes_the_same_run(make: type) -> None:
    """A policy that refuses makes the same run through the environment and in the kernel."""
    env = make("ansi", **REFUSING)
    env.reset(seed=3)
    simulator, over = env._lanes.simulator, False
    while not over:
        choice, size = picky(env.record[()], np.zeros(1), np.zeros(1), np.random.default_rng(0))
        _, _, over, _, _ = env.step((choice, size if size >= 0 else env.config.max_batch + 1))
    rows = simulator.finish()
    again = Requests(*(rows[name].copy() for name in ("arrival", "prompt", "output", "predicted", "slo_class")))
    key = int(simulator.lane[0]["noise_key"])
    found = simulate(env.config, again, picky, noise_key=key).requests
    for name in ("dispatch", "first_token", "completion", "left", "status", "reason"):
        np.testing.assert_array_equal(rows[name], found[name], err_msg=name)
    assert (rows["status"] == layout.REFUSED).sum() > 10


def test_lanes_are_the_scalar_environment() -> None:
    """Step by step, with the refusing size among the actions."""
    vector, scalar = LLMSchedVectorEnv(3, **REFUSING), LLMSchedEnv(**REFUSING)
    rng = np.random.default_rng(0)
    vector.reset(seed=5)
    scalar.reset(seed=5)
    refused = 0
    for _ in range(150):
        action = valid_action(scalar, rng)
        if rng.random() < 0.2:
            action, refused = np.array([3, 9]), refused + 1
        np.testing.assert_array_equal(vector.action_masks()[0], scalar.action_masks())
        ours, reward, over, *_ = scalar.step(action)
        image, rewards, *_ = vector.step(np.stack([action, [3, 8], [3, 9]]))
        if over:
            break
        np.testing.assert_array_equal(image[0], ours)
        assert rewards[0] == reward
    assert refused > 5


def test_refusals_need_the_option() -> None:
    """A size below 0 is an error of the policy without it."""
    env = LLMSchedEnv(**{**REFUSING, "refusals": "off"})
    env.reset(seed=0)
    requests = Requests.checked(np.zeros(60), np.full(60, 50), np.full(60, 50))
    with pytest.raises(ValueError, match="size -1"):
        simulate(env.config, requests, picky)
