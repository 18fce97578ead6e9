"""Every metric of an episode or a run that is cut off, against a count made from the stamps of its requests alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from llmsched.policies import parse
from llmsched_env.config import SLO, Continuous, Queueing, Server, SimConfig
from llmsched_env.core.layout import DROPPED, REJECTED
from llmsched_env.envs.continuous import LLMSchedContinuousEnv, LLMSchedContinuousVectorEnv
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.vector import LLMSchedVectorEnv
from llmsched_env.profiles import load_profile
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.workload import Workload
from tests.envs.env_tools import LLAMA2, LLAMA2_CONTINUOUS, assert_equal, rollout

SCALAR = {"batch": LLMSchedEnv, "continuous": LLMSchedContinuousEnv}
VECTOR = {"batch": LLMSchedVectorEnv, "continuous": LLMSchedContinuousVectorEnv}

TBT = {"tbt_s": 0.06}
TARGETS = {"ttft": 3000, "tpot": 45, "e2el": 15_000}
OPTIONS: dict[str, dict[str, Any]] = {
    "deadline": {"slo": {"e2el": 9000}},
    "every target": {"slo": TARGETS, "controller": TBT},
    "time between tokens": {"slo": {"tpot": 40}, "controller": TBT},
    "no target": {"slo": {}},
    "tight memory": {"slo": TARGETS, "controller": TBT, "kv_tokens": 1600},
    "overdue": {"slo": {"ttft": 3000, "e2el": 12_000}, "overdue_factor": 1.0},
    "overdue, tight memory": {"slo": {"ttft": 3000, "e2el": 12_000}, "overdue_factor": 1.0, "kv_tokens": 2000},
}
ONLY: dict[str, dict[str, dict[str, Any]]] = {
    "batch": {"overdue batch": {"slo": {"e2el": 9000}, "overdue_factor": 1.0, "overdue_batch_factor": 0.75}},
    "continuous": {
        "routed": {"slo": TARGETS, "controller": TBT, "routing": "join-shortest-kv", "kv_tokens": 4000},
        "prompts": {"slo": TARGETS, "controller": TBT, "admission": "prompt", "prefill": "first", "kv_tokens": 2000},
    },
}
CASES = [(engine, name) for engine in SCALAR for name in (*OPTIONS, *ONLY[engine])]


def options_of(engine: str, name: str) -> dict[str, Any]:
    """Options of an episode that is far from over when it is cut off."""
    base = LLAMA2 if engine == "batch" else LLAMA2_CONTINUOUS
    return {**base, "rate": 6.0, "servers": 2, **(OPTIONS | ONLY[engine])[name]}


def met(row: Any, slo: SLO, now: float) -> bool:
    """Whether a request had completed by ``now`` and met every target."""
    if not row["completion"] <= now:
        return False
    spacing = row["last_token"] - row["first_token"]
    return bool(
        row["first_token"] <= row["arrival"] + slo.ttft_s
        and row["completion"] <= row["arrival"] + slo.e2e_s
        and (row["output"] == 1 or spacing <= slo.tpot_s * (row["output"] - 1))
    )


def counted(rows: NDArray, slo: SLO, now: float, decisions: int, left_s: NDArray) -> dict[str, float]:
    """The metrics at ``now``, one request at a time; ``left_s``: when those left that were dropped."""
    arrived = [(row, left) for row, left in zip(rows, left_s, strict=True) if row["arrival"] <= now]
    completed = sum(row["completion"] <= now for row, _ in arrived)
    rejected = sum(row["status"] == REJECTED for row, _ in arrived)
    dropped = sum(row["status"] == DROPPED for row, _ in arrived)
    in_system = 0.0
    for row, left in arrived:
        if row["status"] != REJECTED:
            until = min(row["completion"] if row["completion"] <= now else now, left)
            in_system += until - row["arrival"]
    return {
        "completed": completed,
        "rejected": rejected,
        "dropped": dropped,
        "unfinished": len(arrived) - completed - rejected - dropped,
        "preempted": sum(int(row["preemptions"]) for row, _ in arrived),
        "slo_attainment": sum(met(row, slo, now) for row, _ in arrived) / max(len(arrived), 1),
        "mean_e2e_s": in_system / max(len(arrived), 1),
        "decisions": decisions,
    }


def check(found: dict, kept: dict) -> None:
    """Every metric is there and right."""
    assert found.keys() == kept.keys()
    for name, value in kept.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def cut_short(engine: str, name: str, seed: int, **limits: Any) -> tuple[Any, list[tuple]]:
    """An environment after an episode that was truncated, and its steps."""
    env = SCALAR[engine](**options_of(engine, name), **limits)
    steps = rollout(env, seed)
    assert steps[-1][2:4] == (False, True)
    return env, steps


def dropped_at(engine: str, rows: NDArray, log: NDArray) -> NDArray[np.float64]:
    """When requests left that were dropped, (N,) s; inf for the others.

    Engine `batch`: at the end of a batch of one, engine `continuous`: at the end of a segment of one.
    """
    left = np.full(len(rows), np.inf)
    for i in np.flatnonzero(rows["status"] == DROPPED).tolist():
        if engine == "batch":
            left[i] = rows["last_token"][i]
        else:
            left[i] = log["end"][(log["server"] == rows["server"][i]) & (log["end"] >= rows["last_token"][i])].min()
    return left


LIMITS: dict[str, dict[str, Any]] = {
    "horizon": {"requests": None, "duration_s": 12.0},
    "decisions": {"requests": 300, "max_episode_steps": 12},
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("engine", "name"), CASES)
def test_a_truncated_episode(engine: str, name: str, limit: str) -> None:
    """Both engines, both ways to be cut off: every metric is what the stamps say."""
    unfinished = 0.0
    for seed in range(3):
        env, steps = cut_short(engine, name, seed, **LIMITS[limit], render_mode="rgb_array")
        simulator, now = env._lanes.simulator, steps[-1][4]["time_s"]
        rows = simulator.requests[0][: int(simulator.lane[0]["loaded"])]
        left = dropped_at(engine, rows, simulator.log[0])
        kept = counted(rows, env.config.slos[0], now, len(steps) - 1, left)
        check(steps[-1][4]["episode_metrics"], kept)
        unfinished += kept["unfinished"]
    assert unfinished > 0


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("engine", "name"), CASES)
def test_truncated_lanes(engine: str, name: str, limit: str) -> None:
    """The vector environments: every lane by itself, and the same numbers where a lane starts again at once."""
    options = options_of(engine, name) | LIMITS[limit]
    found: dict[AutoresetMode, dict[int, dict[str, Any]]] = {}
    for mode in (AutoresetMode.DISABLED, AutoresetMode.SAME_STEP):
        envs = VECTOR[engine](3, autoreset_mode=mode, render_mode="rgb_array", **options)
        found[mode] = first_ends(envs, check_lane if mode == AutoresetMode.DISABLED else None)
    assert_equal(found[AutoresetMode.DISABLED], found[AutoresetMode.SAME_STEP])


def first_ends(envs: Any, each: Any) -> dict[int, dict[str, Any]]:
    """Metrics of the first episode of every lane, under `any` with changing sizes; ``each`` checks a lane."""
    envs.reset(seed=5)
    ends: dict[int, dict[str, Any]] = {}
    step = 0
    over = np.zeros(envs.num_envs, bool)
    while len(ends) < envs.num_envs:
        step += 1
        if envs.autoreset_mode == AutoresetMode.DISABLED and over.any():
            envs.reset(options={"reset_mask": over})
        actions = np.tile([envs._lanes.limits.max_bins, 1 + step % 7], (envs.num_envs, 1))
        _, _, terminated, truncated, info = envs.step(actions)
        over = terminated | truncated
        said = info["final_info"] if envs.autoreset_mode == AutoresetMode.SAME_STEP and over.any() else info
        for i in np.flatnonzero(over).tolist():
            if i not in ends:
                assert truncated[i]
                ends[i] = {k: v[i] for k, v in said["episode_metrics"].items() if not k.startswith("_")}
                if each is not None:
                    each(envs, i, ends[i], step)
    return ends


def check_lane(envs: Any, i: int, metrics: dict[str, Any], step: int) -> None:
    """The metrics of lane ``i``, whose first episode has just ended."""
    simulator, config = envs._lanes.simulator, envs._lanes.config
    rows = simulator.requests[i][: int(simulator.lane[i]["loaded"])]
    left = dropped_at(config.engine, rows, simulator.log[i])
    check(metrics, counted(rows, config.slos[0], float(simulator.lane[i]["now"]), step, left))


def test_the_reported_case() -> None:
    """1 of 42 requests completed: 0.024 of the SLOs are met, whatever the engine."""
    for engine in SCALAR:
        env = SCALAR[engine](requests=None, duration_s=6, rate=6, servers=1)
        steps = rollout(env, 1, masked=False)
        metrics = steps[-1][4]["episode_metrics"]
        assert metrics["unfinished"] > 0
        assert metrics["slo_attainment"] <= metrics["completed"] / (metrics["completed"] + metrics["unfinished"])


# Runs cut off by horizon_s -------------------------------------------------------------------------------------

SLOS = (SLO(ttft_s=4.0, tpot_s=0.05, e2e_s=20.0),)
RUNS: dict[str, tuple[SimConfig, str]] = {}
for _kv in (None, 2500.0):
    for _factor in (None, 1.0):
        _servers = (Server(load_profile("h100-80gb_llama2-70b_tp4"), _kv),) * 2
        _queueing = Queueing((80, 200), overdue_factor=_factor)
        _base = SimConfig(_servers, _queueing, slos=SLOS)
        RUNS[f"batch, {_kv}, {_factor}"] = _base, "dynamic"
        for _rules in (Continuous(), Continuous(routing="least-outstanding"), Continuous("prompt", "first")):
            RUNS[f"continuous, {_kv}, {_factor}, {_rules.routing}, {_rules.prefill}"] = (
                SimConfig(_servers, _queueing, slos=SLOS, engine="continuous", continuous=_rules),
                "dynamic",
            )


@pytest.mark.parametrize("name", RUNS)
def test_a_run_cut_off_is_the_beginning_of_the_whole_run(name: str) -> None:
    """Counts and shares of `summarize` at `horizon_s`, from the stamps of the run that was not cut off."""
    config, policy = RUNS[name]
    bound = parse(policy)
    ready = bound.ready(config)
    rows = Workload("azure-conv", requests=200, rate=6.0).draw(3)
    whole = simulate(ready.config, rows, ready.decide, **ready.options).requests
    for horizon_s in (5.0, 17.0, 30.0):
        cut = SimConfig(**{**vars(config), "horizon_s": horizon_s})
        short = bound.ready(cut)
        result = simulate(short.config, rows, short.decide, **short.options)
        summary = summarize(result)
        seen = whole[whole["arrival"] <= horizon_s]
        done = seen[seen["completion"] <= horizon_s]
        lost = int((seen["status"] == REJECTED).sum())
        good = sum(met(row, SLOS[0], horizon_s) for row in seen)
        waited = np.where(seen["dispatch"] <= horizon_s, seen["dispatch"], horizon_s) - seen["arrival"]
        span = done["completion"].max() - seen["arrival"].min() if len(done) else horizon_s - seen["arrival"].min()
        kept = {
            "submitted": len(seen),
            "completed": len(done),
            "rejected": lost,
            "slo_attainment": good / len(seen),
            "duration_s": span,
            "request_goodput": good / span,
            "request_throughput": len(done) / span,
            "output_throughput": done["output"].sum() / span,
            "total_token_throughput": (done["output"] + done["prompt"]).sum() / span,
            "longest_wait_ms": 1000.0 * waited[seen["status"] != REJECTED].max(),
            "mean_e2el_ms": 1000.0 * (done["completion"] - done["arrival"]).mean() if len(done) else math.nan,
            "mean_ttft_ms": 1000.0 * (done["first_token"] - done["arrival"]).mean() if len(done) else math.nan,
            "mean_queue_ms": 1000.0 * (done["dispatch"] - done["arrival"]).mean() if len(done) else math.nan,
        }
        for key, value in kept.items():
            assert summary[key] == pytest.approx(value, rel=1e-12, nan_ok=True), (horizon_s, key)
        ended = (seen["status"] == DROPPED) & (result.requests["status"][: len(seen)] == DROPPED)
        assert summary["dropped"] == ended.sum()
        assert summary["unfinished"] == len(seen) - len(done) - lost - ended.sum() > 0
        assert summary["preemptions"] == result.requests["preemptions"].sum()
