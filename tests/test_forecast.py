"""The predicted times of the head batches, which come from one walk along the queues, against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched_env.env import LLMSchedEnv
from llmsched_env.layout import WAITING
from tests.env_tools import valid_action


def members(env: LLMSchedEnv, rows: Any, k: int, target: int) -> list[Any]:
    """The requests that one batch of bin ``k`` (the last: any) would take, in plain words."""
    bins = env.config.queueing.num_bins
    eta = env.config.servers[int(env.record["server"])].eta
    waiting = [(r["evictions"] == 0, i) for i, r in enumerate(rows) if r["status"] == WAITING and k in (r["bin"], bins)]
    taken: list[Any] = []
    reserved = 0.0
    for _, i in sorted(waiting)[:target]:
        row = rows[i]
        reserved += min(int(row["prompt"]) + int(row["predicted"]), eta)
        if reserved > eta or row["prompt"] + row["generated"] + 1 > eta:
            break
        taken.append(row)
    return taken


def predicted_s(env: LLMSchedEnv, taken: list[Any]) -> float:
    """Prefill and decode of a batch that keeps to its predictions, step by step."""
    profile = env.config.servers[int(env.record["server"])].profile
    prompts = [int(row["prompt"] + row["generated"]) for row in taken]
    longest = max(int(row["predicted"] - row["generated"]) for row in taken)
    kv = sum(prompts) + len(taken) * np.arange(1, longest)
    return (profile.prefill_ms(prompts) + np.sum(profile.decode_step_ms(len(taken), kv))) / 1000.0


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"rate": 8.0},
    "unlike servers": {"profile": "h100-80gb_llama2-70b_tp4:1,a100-80gb_llama2-70b_tp4:2", "rate": 8.0},
    "tiny memory": {"kv_tokens": 4000, "rate": 1.0},
    "memory for a few": {"kv_tokens": 8000, "rate": 2.0, "controller": {"eps_memory": 0.5}},
    "small batches": {"max_batch": 3, "rate": 8.0},
    "many bins": {"bins": (0, *range(20, 330, 10)), "rate": 8.0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_predicted_times_of_the_head_batches(name: str) -> None:
    """Of every bin and of `any`, whether all that waits fits into one batch or not."""
    env = LLMSchedEnv(requests=120, **OPTIONS[name])
    env.reset(seed=3)
    rng, seen, short, over = np.random.default_rng(0), {True: 0, False: 0}, 0, False
    while not over:
        lanes, record = env._lanes.simulator, env.record
        rows = lanes.requests[0]
        for k in range(env.config.queueing.num_bins + 1):
            taken = members(env, rows, k, int(record["target"][k]))
            assert record["batch_time"][k] == pytest.approx(predicted_s(env, taken) if taken else 0.0, rel=1e-9)
        seen[len(taken) == record["waiting"]] += 1
        short += len(taken) < record["waiting"] <= record["target"][k]
        *_, terminated, truncated, _ = env.step(valid_action(env, rng))
        over = terminated or truncated
    assert seen[True] > 2
    assert seen[False] > 5 or name not in ("tiny memory", "small batches")
    assert short > 0 or name != "memory for a few"  # the target allows all that waits, the memory does not
