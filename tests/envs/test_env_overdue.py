"""The overdue queue stands beside the bins: a policy that walks the bins never meets it, and an agent may choose it by
its own number."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched_env.core import layout
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from tests.envs.env_tools import valid_action

LATE: dict[str, Any] = {"overdue_factor": 2.0, "servers": 1, "rate": 5.0, "requests": 300, "slo": {"e2el": 20_000}}


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
