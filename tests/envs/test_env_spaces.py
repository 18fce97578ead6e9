"""Spaces of `LLMSched-v0`: every entry of the observation is what its table says, and masks mean what they say."""

from __future__ import annotations

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from llmsched_env.core import layout
from llmsched_env.core.view import observation
from llmsched_env.envs import spaces
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.requests import Requests
from tests.envs.env_tools import CASES, assert_equal, box_of, discrete_of, options_of, play, rollout, valid_action


def tables() -> list[list[list[str]]]:
    """The cells of the two tables of the observation in the docstring, without their heads."""
    assert LLMSchedEnv.__doc__ is not None
    page = LLMSchedEnv.__doc__.split("## Observation Space")[1].split("\n## ")[0]
    blocks = [block for block in page.split("\n\n") if block.startswith("|")]
    return [
        [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in b.splitlines()[2:]] for b in blocks
    ]


def test_the_table_names_every_entry() -> None:
    """Index and name of each row are those of the code, for bins and `any` alike."""
    common, per_bin = tables()
    names = observation.names(5)
    assert len(names) == observation.size(5) == 20 + 13 * 6
    assert [(int(row[0]), row[1]) for row in common] == list(enumerate(names[:20]))
    for k in range(6):
        block = names[20 + 13 * k : 20 + 13 * (k + 1)]
        owner = "any" if k == 5 else f"bin{k}"
        assert [f"{owner}.{row[1]}" for row in per_bin] == block
        assert [int(row[0].removeprefix("+")) for row in per_bin] == list(range(13))


def image_by_the_table(env: LLMSchedEnv) -> dict[str, float]:
    """The observation computed from the decision record with the formulas that stand in the docstring's tables."""
    r, deadline = env.record, env.config.slos[0].deadline_s
    T = deadline if math.isfinite(deadline) else 30.0
    servers, cap, bins = int(r["num_servers"]), int(r["max_batch"]), int(r["num_bins"])
    overdue = int(r["overdue"])
    max_bins = (box_of(env).shape[0] - 20) // 13 - 1 - (overdue >= 0)
    busy, now = r["busy"][:servers], float(r["now"])
    past = int(r["queue_length"][overdue]) if overdue >= 0 else 0
    in_time = int(r["waiting"]) - past
    raw = {
        "free": r["free_servers"] / servers,
        "servers": servers,
        **{f"busy_{name}": np.quantile(busy, j / 4) for j, name in enumerate(("min", "q25", "median", "q75", "max"))},
        "busy_mean": busy.mean(),
        "kv_reserved": r["kv_reserved_share"],
        "rate_fast": r["rate_fast"] * T / servers,
        "rate_slow": r["rate_slow"] * T / servers,
        "since_arrival": now - r["last_arrival"],
        "oldest_wait": now - r["oldest_arrival"] if in_time else 0.0,
        "waiting": in_time,
        "waiting_per_server": in_time / servers,
        "in_service": r["in_service"] / (servers * cap),
        "tau": r["tau"][bins],
        "mean_batch": r["mean_batch"][bins] / cap,
        "last_service": r["last_service"],
        "can_wait": r["can_wait"],
    }
    common, per_bin = tables()
    image = {row[1]: scaled(raw[row[1]], row[4], T, cap) for row in common}
    choices = [*((f"bin{k}", k) for k in range(max_bins)), ("any", bins), *[("overdue", overdue)] * (overdue >= 0)]
    for owner, k in choices:
        if owner.startswith("bin") and k >= bins:
            image |= {f"{owner}.{row[1]}": 0.0 for row in per_bin}
            continue
        length = r["queue_length"][k]
        values = {
            "queue": length,
            "queue_in_batches": length / r["target"][k],
            "head_wait": now - r["head_arrival"][k] if length else 0.0,
            "head_predicted": r["head_predicted"][k],
            "head_prompt": r["head_prompt"][k],
            "batch_time": r["batch_time"][k],
            "slack": r["slack"][k],
            "target": r["target"][k] / cap,
            "low": r["low"][k] / cap,
            "high": r["high"][k] / cap,
            "mean_tokens": r["mean_tokens"][k],
            "served": float(length > 0),
            "overdue": float(past > 0 and (owner == "overdue" or (owner == "any" and in_time == 0))),
        }
        image |= {f"{owner}.{row[1]}": scaled(values[row[1]], row[4], T, cap) for row in per_bin}
    return image


def scaled(x: Any, scale: str, deadline_s: float, max_batch: int) -> float:
    """A number as a formula of the table takes it into [0, 1] (a slack into [-1, 1])."""
    x = float(x)
    if scale.startswith("linear"):
        y = x
    elif x == math.inf:
        y = 1.0
    else:
        names = {"x": x, "T": deadline_s, "max_batch": max_batch, "log2": math.log2, "abs": abs}
        y = eval(scale, {"__builtins__": {}}, names)
    return min(max(y, -1.0 if "abs" in scale else 0.0), 1.0)


@pytest.mark.parametrize("name", CASES)
def test_every_entry_is_what_the_table_says(name: str) -> None:
    """Recomputed from the record by the formulas of the docstring, at every decision of an episode."""
    env = LLMSchedEnv(**options_of(name))
    rng = np.random.default_rng(0)
    image, _ = env.reset(seed=2)
    limits = env._lanes.limits
    names = observation.names(limits.max_bins, limits.overdue)
    for _ in range(60):
        expected = image_by_the_table(env)
        assert list(expected) == names
        np.testing.assert_allclose(image, list(expected.values()), rtol=0, atol=1e-6)
        image, _, terminated, truncated, _ = env.step(valid_action(env, rng))
        if terminated or truncated:
            break


@pytest.mark.parametrize("name", CASES)
def test_observations_stay_in_bounds(name: str) -> None:
    """Whole episodes, with valid actions and with any; no entry is NaN."""
    env = LLMSchedEnv(**options_of(name))
    for seed in range(4):
        for step in rollout(env, seed, masked=seed % 2 == 0):
            assert env.observation_space.contains(step[0]), np.array(
                observation.names(env._lanes.limits.max_bins, env._lanes.limits.overdue)
            )[(step[0] < box_of(env).low) | (step[0] > box_of(env).high)]


def test_one_layout_for_any_number_of_bins_and_servers() -> None:
    """`max_bins` alone decides the spaces."""
    shapes = set()
    for options in ({"bins": 1}, {"bins": 4}, {"bins": (0, *range(20, 60, 2))}, {"servers": 100}):
        env = LLMSchedEnv(max_bins=32, **options)
        shapes.add((env.observation_space.shape, str(env.action_space)))
    assert shapes == {((20 + 13 * 33,), "MultiDiscrete([ 33 129])")}


# Masks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_masks_are_what_the_record_says(name: str) -> None:
    """Served bins, `any` always, waiting where an event can come; never everything masked."""
    env = LLMSchedEnv(**options_of(name))
    rng = np.random.default_rng(0)
    env.reset(seed=1)
    over = False
    while not over:
        mask, record = env.action_masks(), env.record
        assert mask.dtype == bool and mask.any()
        bins = int(record["num_bins"])
        served = [k < bins and record["queue_length"][k] > 0 for k in range(env._lanes.limits.max_bins)] + [True]
        if record["overdue"] >= 0:
            served.append(0 < record["queue_length"][record["overdue"]] == record["waiting"])
        if isinstance(env.action_space, gym.spaces.Discrete):
            rungs = (env.action_space.n - 1) // len(served)
            expected = [bool(record["can_wait"]), *np.repeat(served, rungs)]
        else:
            assert isinstance(env.action_space, gym.spaces.MultiDiscrete)
            assert len(mask) == env.action_space.nvec.sum()
            expected = [*served, bool(record["can_wait"]), *[True] * (env.config.max_batch + record["may_refuse"])]
        np.testing.assert_array_equal(mask, expected)
        _, _, terminated, truncated, _ = env.step(valid_action(env, rng))
        over = terminated or truncated


def without_count(result: tuple) -> tuple:
    """A step's result without the number of empty choices."""
    return *result[:4], {key: value for key, value in result[4].items() if key != "empty_choices"}


@pytest.mark.parametrize("name", ["default", "room for more bins", "bins that stay empty", "tiny memory, own order"])
def test_masked_actions_mean_what_is_written(name: str) -> None:
    """An empty bin, or one that does not exist, is `any` and counted."""
    env = LLMSchedEnv(**options_of(name, requests=40))
    rng = np.random.default_rng(3)
    any_bin, empty = env._lanes.limits.max_bins, 0
    for seed in range(3):
        env.reset(seed=seed)
        over = False
        while not over:
            mask = env.action_masks()
            for k in np.flatnonzero(~mask[:any_bin]):
                chosen, meant = (copy.deepcopy(env).step((action, 5)) for action in (k, any_bin))
                assert_equal(without_count(chosen), without_count(meant))
                assert (chosen[4]["empty_choices"], meant[4]["empty_choices"]) == (1, 0)
                empty += 1
            result = env.step(valid_action(env, rng))
            over = result[2] or result[3]
    assert empty > 10


@pytest.mark.parametrize("timer", [{}, {"tick_s": 7.0}, {"hold_s": 1000.0}])
def test_waiting_for_nothing_is_any_max_batch(timer: dict[str, Any]) -> None:
    """Whoever waits as long as he may comes to a decision where no event can come, and the episode still ends."""
    env = LLMSchedEnv(requests=40, max_batch=16, **timer)
    env.reset(seed=0)
    idle, over = 0, False
    while not over:
        if not env.action_masks()[5]:
            chosen, meant = (copy.deepcopy(env).step((choice, size)) for choice, size in ((0, 0), (4, 16)))
            assert_equal(chosen, meant)
            idle += 1
        _, _, over, truncated, info = env.step((0, 0))
    assert idle >= 3 and not truncated and info["episode_metrics"]["completed"] == 40


def test_waiting_starts_nothing_before_the_next_event() -> None:
    """Wait at the first arrival: asked again at the second, with both waiting."""
    env = LLMSchedEnv(requests=20, servers=3)
    env.reset(seed=0)
    _, _, _, _, info = env.step((4, 0))
    assert env.record["waiting"] == 2 and env.record["in_service"] == 0 and env.record["free_servers"] == 3
    assert info["time_s"] == env.record["last_arrival"] and info["elapsed_s"] > 0


def test_samples_with_the_mask_are_valid() -> None:
    """`action_space.sample(env.unwrapped.sample_mask())`, for both action variants."""
    for kind in ("multidiscrete", "ladder"):
        env = LLMSchedEnv(requests=40, action=kind)
        env.reset(seed=0)
        over = False
        while not over:
            mask, action = env.action_masks(), env.action_space.sample(env.sample_mask())
            assert mask[action] if kind == "ladder" else mask[action[0]] and mask[5 + action[1]]
            _, _, terminated, truncated, info = env.step(action)
            assert info["empty_choices"] == 0
            over = terminated or truncated


# Actions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_batch", [1, 2, 3, 100, 128])
def test_ladder_is_the_same_environment(max_batch: int) -> None:
    """Every rung is a pair of the MultiDiscrete variant: wait; sizes 1, 2, 4, ..., max_batch; the target."""
    options: dict[str, Any] = {"requests": 80, "max_batch": max_batch, "max_bins": 6}
    ours, theirs = LLMSchedEnv(action="ladder", **options), LLMSchedEnv(**options)
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size < max_batch] + [max_batch]
    rungs = len(sizes) + 1
    assert discrete_of(ours).n == 1 + 7 * rungs
    assert_equal(ours.reset(seed=3), theirs.reset(seed=3))
    rng = np.random.default_rng(3)
    used, over = set(), False
    while not over:
        action = int(rng.integers(discrete_of(ours).n))
        choice, rung = divmod(action - 1, rungs)
        queue = min(choice, int(theirs.record["num_bins"]))
        size = sizes[rung] if rung < len(sizes) else int(theirs.record["target"][queue])
        pair = (6, 0) if action == 0 else (choice, size)
        used.add(rung if action else "wait")
        results = ours.step(action), theirs.step(pair)
        assert_equal(*results)
        over = results[0][2]
    assert len(used) >= min(rungs, 5)


def test_sizes_are_sizes() -> None:
    """(bin, n) launches min(n, waiting there) requests of that bin on the server that asks."""
    env = LLMSchedEnv(requests=300, servers=1, rate=20.0, render_mode="ansi")
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(40):
        choice, size = int(rng.integers(5)), int(rng.integers(1, 129))
        waiting = int(env.record["queue_length"][choice])
        if waiting == 0:
            continue
        logged = int(env._lanes.simulator.lane[0]["counts"]["logged"])
        over = env.step((choice, size))[2]
        row = env._lanes.simulator.log[0][logged]
        assert (row["choice"], row["size"]) == (choice, min(size, waiting))
        if over:
            break
    assert logged > 5


def check_masks(kind: str, valid: np.ndarray, limits: spaces.Limits, expected: list[list[int]]) -> None:
    masks = spaces.action_masks(kind, valid, spaces.blank_masks(kind, len(valid), limits))
    np.testing.assert_array_equal(masks, np.array(expected, bool))


def test_masks_and_spaces_by_hand() -> None:
    """Two lanes, three bins of which two exist."""
    valid = np.array([[1, 0, 0, 1, 1], [0, 1, 0, 1, 0]], np.int8)  # three bins, any, wait
    check_masks("multidiscrete", valid, spaces.Limits(3, 2), [[1, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 1]])
    by_rung = [[1, *[1] * 3, *[0] * 6, *[1] * 3], [0, *[0] * 3, *[1] * 3, *[0] * 3, *[1] * 3]]
    check_masks("ladder", valid, spaces.Limits(3, 2), by_rung)
    overdue = spaces.Limits(2, 2, overdue=True)
    valid = np.array([[1, 0, 1, 0, 1], [0, 0, 1, 1, 0]], np.int8)  # two bins, any, overdue, wait
    check_masks("multidiscrete", valid, overdue, [[1, 0, 1, 0, 1, 1, 1], [0, 0, 1, 1, 0, 1, 1]])
    by_rung = [[1, *[1] * 3, *[0] * 3, *[1] * 3, *[0] * 3], [0, *[0] * 6, *[1] * 6]]
    check_masks("ladder", valid, overdue, by_rung)
    assert spaces.ladder(6).tolist() == [1, 2, 4, 6, layout.NONE]


def test_the_future_is_not_shown() -> None:
    """Two episodes that differ only in true output lengths look alike until the first batch is over."""
    n = 60
    arrival, prompt, predicted = 0.001 * np.arange(n), np.full(n, 100), np.arange(1, n + 1) * 7
    images = []
    for output in (np.full(n, 400), np.arange(n) + 300):
        env = LLMSchedEnv(requests=n, bins=(0, 64, 256), servers=3)
        env.reset(seed=0, options={"requests": Requests.checked(arrival, prompt, output, predicted)})
        images.append([env.step((3, 2))[0] for _ in range(2)] + [env.step((3, 0))[0] for _ in range(30)])
    first, second = images
    assert_equal(first, second)
    assert len(play(env, 0)) > 3
