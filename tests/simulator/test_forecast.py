"""The predicted times of the head batches, which come from one walk along the queues, against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched_env.core.layout import WAITING
from llmsched_env.envs.scalar import LLMSchedEnv
from tests.envs.env_tools import LLAMA2, valid_action
from tests.oracles import batch as reference


def members(env: LLMSchedEnv, rows: Any, k: int, target: int) -> list[Any]:
    """The requests that one batch of choice ``k`` would take, in plain words."""
    eta = env.config.servers[int(env.record["server"])].eta
    waiting = [as_request(env, rows, int(i)) for i in np.flatnonzero(rows["status"] == WAITING)]
    bins = env.config.queueing.num_bins
    if k == bins:
        waiting = reference.in_order_of_any(waiting)
    else:
        waiting = sorted((request for request in waiting if request.bin == min(k, bins)), key=reference.Request.order)
    taken: list[Any] = []
    reserved = 0.0
    for request in waiting[:target]:
        row = rows[request.number]
        reserved += min(int(row["prompt"]) + int(row["predicted"]), eta)
        if reserved > eta or row["prompt"] + row["generated"] + 1 > eta:
            break
        taken.append(row)
    return taken


def as_request(env: LLMSchedEnv, rows: Any, i: int) -> reference.Request:
    """A waiting request as the slow reference has it, with its place in the queues."""
    row, config, queueing = rows[i], env.config, env.config.queueing
    facts = float(row["arrival"]), int(row["prompt"]), int(row["predicted"]), int(row["slo_class"])
    return reference.Request(
        i,
        *facts[:2],
        int(row["output"]),
        *facts[2:],
        bin=queueing.num_bins if row["overdue"] else int(row["bin"]),
        key=reference.discipline_key(config, *facts[:2], int(row["output"]), *facts[2:]),
        overdue=int(row["overdue"]) and overdue_places(env)[i],
        returned=row["preemptions"] > 0,
    )


def overdue_places(env: LLMSchedEnv) -> dict[int, int]:
    """Place of every waiting request of the overdue queue, from 1, as the list of the simulator has it."""
    simulator = env._lanes.simulator
    places: dict[int, int] = {}
    i = int(simulator.bins[0]["head"][env.config.queueing.num_bins])
    while i >= 0:
        places[i] = len(places) + 1
        i = int(simulator.requests[0]["next"][i])
    return places


def predicted_s(env: LLMSchedEnv, taken: list[Any]) -> float:
    """Prefill and decode of a batch that keeps to its predictions, step by step."""
    profile = env.config.servers[int(env.record["server"])].profile
    prompts = [int(row["prompt"] + row["generated"]) for row in taken]
    longest = max(int(row["predicted"] - row["generated"]) for row in taken)
    kv: Any = sum(prompts) + len(taken) * np.arange(1, longest)
    return (profile.prefill_ms(prompts) + np.sum(profile.decode_step_ms(len(taken), kv))) / 1000.0


def check_head(env: LLMSchedEnv, taken: list[Any], k: int) -> None:
    """The slack of a choice is that of the first request that it would take."""
    record = env.record
    if taken:
        slack = taken[0]["arrival"] + env.config.slos[0].deadline_s - record["now"] - predicted_s(env, taken)
        assert record["slack"][k] == pytest.approx(slack, abs=1e-6)
    elif record["queue_length"][k] == 0:
        assert record["slack"][k] == np.inf


_OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"rate": 8.0},
    "unlike servers": {"profile": "h100-80gb_llama2-70b_tp4:1,a100-80gb_llama2-70b_tp4:2", "rate": 8.0},
    "tiny memory": {"kv_tokens": 4000, "rate": 1.0},
    "memory for a few": {"kv_tokens": 8000, "rate": 2.0, "controller": {"eps_memory": 0.5}},
    "small batches": {"max_batch": 3, "rate": 8.0},
    "overdue": {"overdue_factor": 1.0, "rate": 12.0, "slo": {"e2el": 15_000}},
    "overdue, shortest first": {
        "overdue_factor": 1.0,
        "rate": 2.0,
        "kv_tokens": 4000,
        "discipline": "sjf",
    },
    "many bins": {"bins": (0, *range(20, 330, 10)), "rate": 8.0},
}
OPTIONS = {name: {**LLAMA2, **own} for name, own in _OPTIONS.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_predicted_times_of_the_head_batches(name: str) -> None:
    """Of every bin and of `any`, whether all that waits fits into one batch or not."""
    env = LLMSchedEnv(requests=120, **OPTIONS[name])
    env.reset(seed=3)
    rng, seen, short, over = np.random.default_rng(0), {True: 0, False: 0}, 0, False
    overdue = {"seen": 0, "alone": 0}
    while not over:
        lanes, record = env._lanes.simulator, env.record
        rows = lanes.requests[0]
        for k in range(env.config.queueing.num_queues + 1):
            taken = members(env, rows, k, int(record["target"][k]))
            assert record["batch_time"][k] == pytest.approx(predicted_s(env, taken) if taken else 0.0, rel=1e-9)
            check_head(env, taken, k)
        waiting = int(record["queue_length"][record["overdue"]]) if record["overdue"] >= 0 else 0
        overdue["seen"] += waiting
        overdue["alone"] += waiting == record["waiting"] > 0
        k = int(record["num_bins"])
        taken = members(env, rows, k, int(record["target"][k]))
        seen[len(taken) == record["queue_length"][k]] += 1
        short += len(taken) < record["queue_length"][k] <= record["target"][k]
        *_, terminated, truncated, _ = env.step(valid_action(env, rng))
        over = terminated or truncated
    assert (overdue["seen"] > 0) == ("overdue" in name), overdue
    assert (overdue["alone"] > 0) == ("overdue" in name)
    assert seen[True] > 2
    assert seen[False] > 5 or name not in ("tiny memory", "small batches")
    assert short > 0 or name != "memory for a few"  # the target allows all that waits, the memory does not
