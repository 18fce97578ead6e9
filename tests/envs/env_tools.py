"""What the tests of the environments share: option sets with every corner in them, rollouts, comparison."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from llmsched_env.requests import Requests


def own_requests(n: int = 120, seed: int = 7, gap_s: float = 0.4) -> Requests:
    """Requests that no generator draws: some of one token, some in the same instant."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(gap_s, n))
    arrival[1::9] = arrival[0 : n - 1 : 9]
    output = np.maximum(1, rng.lognormal(4.0, 1.3, n)).astype(int)
    return Requests.checked(
        np.sort(arrival), rng.integers(1, 1500, n), output, np.maximum(1, output + rng.integers(-20, 20, n))
    )


LLAMA2: dict[str, Any] = {"profile": "h100-80gb_llama2-70b_tp4", "rate": 2.5, "slo": {"e2el": 30_000}}
LLAMA2_CONTINUOUS = LLAMA2 | {"rate": 10.0, "slo": {"ttft": 2000, "tpot": 100}, "rules": "own"}
"""The scenario llama2-h100: the loads and targets below have their corners there, and clients see tokens at once."""

UNLIKE = "h100-80gb_llama2-70b_tp4:1,a100-80gb_llama2-70b_tp4:2,synthetic:1"

_CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "ladder": {"action": "ladder"},
    "one bin": {"bins": 1, "servers": 1, "rate": 0.6},
    "unlike servers": {"profile": UNLIKE},
    "tiny memory": {"kv_tokens": 2500, "rate": 2.0},
    "tiny memory, own order": {"kv_tokens": 1800, "rate": 1.0, "discipline": "sjf"},
    "bins that stay empty": {"bins": (0, 4_000_000, 5_000_000), "max_bins": 6},
    "32 bins": {"bins": (0, *range(20, 330, 10))},
    "room for more bins": {"max_bins": 32},
    "128 servers": {"servers": 128, "rate": 80.0, "max_batch": 4},
    "no prediction": {"predictor": "none", "bins": (0, 64, 256)},
    "prediction from the prompt": {"predictor": "prompt-only"},
    "timers": {"hold_s": 2.0, "tick_s": 5.0},
    "bursts": {"burstiness": 0.1, "rate": 4.0},
    "every target": {"slo": {"ttft": 2000, "tpot": 45, "e2el": 25_000}},
    "time between tokens": {"slo": {"tpot": 30}, "controller": {"tbt_s": 0.06}},
    "no target": {"slo": {}},
    "batches of at most 3": {"max_batch": 3},
    "load by episode": {"rate": (0.3, 12.0)},
    "workload by episode": {"workload": ["azure-conv", "azure-code", "mooncake-conv"], "bins": (0, 64, 256)},
    "own requests": {"workload": own_requests(), "bins": (0, 30, 90)},
    "until a time": {"requests": None, "duration_s": 40.0, "rate": 5.0},
    "the peer's controllers": {"controller": {"kind": "peer"}},
    "overdue": {"overdue_factor": 1.0, "rate": 10.0, "slo": {"ttft": 6000, "e2el": 20_000}, "max_bins": 7},
    "overdue also at launch, own order": {
        "overdue_batch_factor": 0.75,
        "overdue_factor": 1.5,
        "rate": 2.0,
        "kv_tokens": 2500,
        "discipline": "sjf",
        "action": "ladder",
    },
    "refusals and impatient clients": {
        "rate": 6.0,
        "queue_cap": 20,
        "accept_rate": 3.0,
        "accept_burst": 8.0,
        "patience_s": 12.0,
        "refusals": "on",
    },
    "overdue requests refused": {
        "rate": 6.0,
        "overdue_factor": 1.5,
        "overdue_batch_factor": 0.75,
        "overdue": "refuse",
        "refusals": "on",
        "action": "ladder",
    },
    "form batch-length": {"profile": "peer-qwen3-1.7b-rtx4080", "rate": 0.5},
    "no memory limit": {"profile": "ideal", "servers": 2, "rate": 8.0, "discipline": "edf"},
}
CASES = {name: {**LLAMA2, **own} for name, own in _CASES.items()}
"""Keyword arguments of the environment by name."""

SHORT = {"requests": 60}
"""For cases that do not set their length themselves."""


def options_of(name: str, **more: Any) -> dict[str, Any]:
    """The options of a case, with short episodes."""
    return {**SHORT, **CASES[name], **more}


def box_of(env: gym.Env) -> gym.spaces.Box:
    """The observation space, which is a box."""
    assert isinstance(env.observation_space, gym.spaces.Box)
    return env.observation_space


def discrete_of(env: gym.Env) -> gym.spaces.Discrete:
    """The action space of the variant `ladder`, which is a range of numbers."""
    assert isinstance(env.action_space, gym.spaces.Discrete)
    return env.action_space


def valid_action(env: gym.Env, rng: np.random.Generator) -> Any:
    """One of the valid actions; waits and small batches come often."""
    mask = env.unwrapped.action_masks()  # type: ignore[attr-defined]
    if isinstance(env.action_space, gym.spaces.Discrete):
        return int(rng.choice(np.flatnonzero(mask)))
    choices, sizes = np.split(mask, [int(env.action_space.nvec[0])])  # type: ignore[attr-defined]
    size = int(rng.integers(len(sizes))) if rng.random() < 0.3 else int(rng.integers(min(9, len(sizes))))
    return np.array([rng.choice(np.flatnonzero(choices)), size if sizes[size] else 1])


def rollout(env: gym.Env, seed: int | None, *, steps: int = 10_000, masked: bool = True) -> list[tuple]:
    """(observation, reward, terminated, truncated, info) from reset to the end of the episode, or for ``steps``."""
    observation, info = env.reset(seed=seed)
    return [(observation, 0.0, False, False, info), *play(env, seed, steps=steps, masked=masked)]


def play(env: gym.Env, seed: int | None, *, steps: int = 10_000, masked: bool = True) -> list[tuple]:
    """The same from where the environment stands, actions drawn with ``seed``."""
    rng = np.random.default_rng(seed or 0)
    env.action_space.seed(seed or 0)
    found: list[tuple] = []
    while len(found) < steps and not (found and (found[-1][2] or found[-1][3])):
        found.append(env.step(valid_action(env, rng) if masked else env.action_space.sample()))
    return found


def assert_equal(a: Any, b: Any, place: str = "") -> None:
    """Equal to the bit, types included, in nested dictionaries, lists and arrays."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), f"{place}: {sorted(a)} and {sorted(b)}"
        for key in a:
            assert_equal(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{place}/{i}")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert_equal(list(a), list(b), place)
    elif a is None or b is None:
        assert a is b, place
    else:
        x, y = np.asarray(a), np.asarray(b)
        assert x.dtype == y.dtype, f"{place}: {x.dtype} and {y.dtype}"
        np.testing.assert_array_equal(x, y, err_msg=place)
