"""Golden trajectories: what the registered ids do, written down.

    python tests/envs/golden/make.py

writes them anew.  Do that only together with a new number after `-v` and its reason, as CHANGELOG.md asks: results
that were learned or published with an id have to stay comparable.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

import gymnasium as gym

import llmsched_env  # noqa: F401  (registers the environments)

FOLDER = Path(__file__).parent
SEEDS = (0, 1)
STEPS = 50

LLAMA2 = {"profile": "h100-80gb_llama2-70b_tp4", "rate": 2.5, "slo": {"e2el": 30_000}}
LLAMA2_CONTINUOUS = LLAMA2 | {"requests": 500, "rate": 10.0, "slo": {"ttft": 2000, "tpot": 100}, "rules": "own"}
"""What the defaults were when the cases below were written: what is chosen here stays as it is."""

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "LLMSched-v0": {
        "default": {},
        "llama2 on H100": LLAMA2,
        "ladder": {**LLAMA2, "action": "ladder", "requests": 60},
        "unlike servers": {
            **LLAMA2,
            "profile": "h100-80gb_llama2-70b_tp4:1,a100-80gb_llama2-70b_tp4:2",
            "requests": 60,
        },
        "little memory": {**LLAMA2, "kv_tokens": 2500, "rate": 2.0, "requests": 60},
        "shortest first": {**LLAMA2, "kv_tokens": 1800, "rate": 1.0, "requests": 60, "discipline": "sjf"},
        "timers": {**LLAMA2, "hold_s": 2.0, "tick_s": 5.0, "servers": 2, "rate": 1.0, "requests": 60},
        "every target": {
            **LLAMA2,
            "slo": {"ttft": 2000, "tpot": 45, "e2el": 25_000},
            "reward": {"tardiness": 0.1},
            "requests": 60,
        },
        "other workloads": {
            **LLAMA2,
            "workload": ["azure-code", "burstgpt", "mooncake-conv"],
            "bins": (0, 64, 256),
            "rate": (0.5, 4),
        },
        "until a time": {**LLAMA2, "requests": None, "duration_s": 60.0, "burstiness": 0.5, "predictor": "prompt-only"},
        "the peer's controllers": {
            **LLAMA2,
            "controller": {"kind": "peer"},
            "max_bins": 6,
            "action": "ladder",
            "requests": 60,
        },
    },
    "LLMSchedContinuous-v0": {
        "default": {},
        "llama2 on H100": LLAMA2_CONTINUOUS,
        "ladder": {**LLAMA2_CONTINUOUS, "action": "ladder", "requests": 60},
        "prompts first, little memory": {
            **LLAMA2_CONTINUOUS,
            "prefill": "first",
            "admission": "prompt",
            "kv_tokens": 4000,
            "rate": 4.0,
            "requests": 60,
        },
        "small chunks, routed": {
            **LLAMA2_CONTINUOUS,
            "token_budget": 300,
            "routing": "join-shortest-kv",
            "rate": 20.0,
            "requests": 60,
        },
    },
    "LLMSchedRouter-v0": {
        "default": {"requests": 60},
        "old loads, unlike servers": {
            **LLAMA2_CONTINUOUS,
            "profile": "h100-80gb_llama2-70b_tp4:1,a100-80gb_llama2-70b_tp4:2",
            "shared_prefix": "20:800:1",
            "kv_tokens": 20_000,
            "load_age_s": 2.0,
            "requests": 60,
        },
    },
    "LLMSchedSmall-v0": {"default": {"requests": 60}, "larger": {"max_batch": 8, "load": 0.6, "requests": 60}},
}
"""Options by id and name."""


def some_action(env: Any, rng: np.random.Generator) -> Any:
    """A valid action, small batches mostly; part of what is kept, so written here and nowhere else."""
    mask = env.action_masks()
    if isinstance(env.action_space, gym.spaces.Discrete):
        return int(rng.choice(np.flatnonzero(mask)))
    choices, sizes = np.split(mask, [int(env.action_space.nvec[0])])
    return int(rng.choice(np.flatnonzero(choices))), int(rng.choice(np.flatnonzero(sizes[:9])))


def trajectory(env_id: str, options: dict[str, Any], seed: int) -> list[list[float]]:
    """Clock, reward, image and flags at every step of a seeded episode and of the one after it.

    The image is one number: the observation times fixed weights, so that no entry can move unseen.
    """
    env = gym.make(env_id, **options).unwrapped
    weights = np.cos(np.arange(1.0, env.observation_space.shape[0] + 1.0))  # type: ignore[index]
    rng, rows = np.random.default_rng(seed), []
    for start in (seed, None):
        image, info = env.reset(seed=start)
        step: tuple = (image, 0.0, False, False, info)
        for _ in range(STEPS):
            image, reward, terminated, truncated, info = step
            rows.append([info["time_s"], reward, float(image @ weights), int(terminated), int(truncated)])
            if terminated or truncated:
                break
            step = env.step(some_action(env, rng))
    return rows


def trajectories(env_id: str) -> dict[str, list[list[float]]]:
    """All of one id, by case and seed."""
    return {
        f"{name}, seed {seed}": trajectory(env_id, options, seed)
        for name, options in CASES[env_id].items()
        for seed in SEEDS
    }


def main() -> None:
    """Write a file for every id."""
    for env_id in CASES:
        lines = [
            f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps([float(f"{x:.9g}") for x in row]) for row in rows) + "]"
            for name, rows in trajectories(env_id).items()
        ]
        (FOLDER / f"{env_id}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
