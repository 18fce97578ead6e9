"""Steps per second of LLMSched-v0, scalar and native vector, beside CartPole-v1."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np

from llmsched.eval.speed.table import SpeedRow, number_text

ENV, ANCHOR = "llmsched_env:LLMSched-v0", "CartPole-v1"
DRAWN = 4096
"""Random actions drawn before the measurement."""


def rate(work: Callable[[], int], seconds: float, repeats: int) -> float:
    """Steps per CPU-second of ``work``, which returns the steps it made: the best of ``repeats`` windows."""
    work()
    best = 0.0
    for _ in range(repeats):
        steps, began, spent = 0, time.process_time(), 0.0
        while spent < seconds:
            steps += work()
            spent = time.process_time() - began
        best = max(best, steps / spent)
    return best


def step_any_action(env: gym.Env) -> Callable[[], int]:
    """Steps with actions from the whole space, drawn before; resets included."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(DRAWN)]
    env.reset(seed=0)

    def work() -> int:
        step = env.step
        for action in actions:
            _, _, terminated, truncated, _ = step(action)
            if terminated or truncated:
                env.reset()
        return DRAWN

    return work


def step_valid_action(env: gym.Env) -> Callable[[], int]:
    """Steps with actions that the mask allows: an empty bin becomes `any`, a wait not allowed a batch of 1."""
    inner: Any = env.unwrapped
    env.action_space.seed(0)
    actions = [env.action_space.sample().tolist() for _ in range(DRAWN)]
    env.reset(seed=0)
    everything = int(env.action_space.nvec[0]) - 1  # type: ignore[attr-defined]

    def work() -> int:
        """All actions once; the number of steps."""
        step, masks = env.step, inner.action_masks
        for choice, size in actions:
            mask = masks()
            choice = choice if mask[choice] else everything
            size = size if size or mask[everything + 1] else 1
            _, _, terminated, truncated, _ = step((choice, size))
            if terminated or truncated:
                env.reset()
        return DRAWN

    return work


@dataclass
class Tally:
    """Steps and episodes of all lanes during the measurement."""

    steps: int = 0
    episodes: int = 0


def step_valid_lanes(envs: gym.vector.VectorEnv, tally: Tally) -> Callable[[], int]:
    """Masked random actions in all lanes at once, resets included."""
    lanes, inner = envs.num_envs, envs.unwrapped
    rng = np.random.default_rng(0)
    everything, most = (int(n) - 1 for n in envs.single_action_space.nvec)  # type: ignore[attr-defined]
    drawn = np.stack([rng.integers(0, everything + 1, (64, lanes)), rng.integers(0, most + 1, (64, lanes))], axis=2)
    rows, places = np.arange(lanes), cycle(range(64))
    envs.reset(seed=0)

    def work() -> int:
        """One step of all lanes with drawn actions, made legal by the masks."""
        actions = drawn[next(places)].copy()
        mask = inner.action_masks()  # type: ignore[attr-defined]
        actions[~mask[rows, actions[:, 0]], 0] = everything
        actions[(actions[:, 1] == 0) & ~mask[:, everything + 1], 1] = 1
        _, _, terminated, truncated, _ = envs.step(actions)
        tally.steps += lanes
        tally.episodes += int(np.count_nonzero(terminated | truncated))
        return lanes

    return work


def step_any_lanes(envs: gym.vector.VectorEnv) -> Callable[[], int]:
    """Actions from the whole space in all lanes at once, drawn before."""
    envs.action_space.seed(0)
    actions = cycle([envs.action_space.sample() for _ in range(64)])
    envs.reset(seed=0)

    def work() -> int:
        envs.step(next(actions))
        return envs.num_envs

    return work


def envpool_row(seconds: float, repeats: int, lanes: int) -> SpeedRow:
    """CartPole-v1 of envpool on one thread, or the reason why it is absent."""
    name = f"{ANCHOR} envpool, {lanes} lanes, one thread"
    try:
        import envpool
    except Exception as error:  # also what a wheel for another system or another NumPy raises
        reason = f"envpool does not load here ({type(error).__name__}: {error})"
        return SpeedRow("env", name, math.nan, "steps/s", note=reason.replace("|", "/").splitlines()[0])
    envs = envpool.make_gymnasium(ANCHOR, num_envs=lanes, num_threads=1, seed=0)
    actions = cycle(list(np.random.default_rng(0).integers(0, 2, (64, lanes))))
    envs.reset()

    def work() -> int:
        envs.step(next(actions))
        return lanes

    return SpeedRow("env", name, rate(work, seconds, repeats), "steps/s", note="actions drawn before")


def measure(seconds: float, repeats: int, lanes: int) -> list[SpeedRow]:
    """Scalar and vector steps/s of ours and of CartPole, resets included."""
    scalar, vector = f"{ANCHOR} gym.make", f"{ANCHOR} native, {lanes} lanes"
    before, masked, unit = "actions drawn before", "mask read at every step", "steps/s"
    native = "vector_entry_point"
    pole = rate(step_any_action(gym.make(ANCHOR)), seconds, repeats)
    poles = rate(step_any_lanes(gym.make_vec(ANCHOR, lanes, native)), seconds, repeats)
    any_action = rate(step_any_action(gym.make(ENV)), seconds, repeats)
    valid = rate(step_valid_action(gym.make(ENV)), seconds, repeats)
    envs, tally = gym.make_vec(ENV, lanes, native), Tally()
    valid_lanes = rate(step_valid_lanes(envs, tally), seconds, repeats)
    requests = valid_lanes * tally.episodes / tally.steps * envs.unwrapped.options.requests  # type: ignore[attr-defined]
    return [
        SpeedRow("env", scalar, pole, unit, note=before),
        SpeedRow("env", "LLMSched-v0 gym.make, any action", any_action, unit, pole, scalar, before),
        SpeedRow("env", "LLMSched-v0 gym.make, valid actions", valid, unit, pole, scalar, masked),
        SpeedRow("env", vector, poles, unit, note=before),
        envpool_row(seconds, repeats, lanes),
        SpeedRow(
            "env",
            f"LLMSched-v0 native, {lanes} lanes, valid actions",
            valid_lanes,
            unit,
            pole,
            scalar,
            f"{number_text(requests)} requests/s; {masked}",
        ),
    ]
