"""Rewards of `LLMSched-v0` against the records of the same episode, and how episodes end."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_env.config import SLO
from llmsched_env.core.layout import ABANDONED, COMPLETED, DROPPED, PENDING, REFUSED, REJECTED
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import meets_slo, summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import finish_rows
from tests.envs.env_tools import CASES, LLAMA2, options_of, own_requests, rollout, valid_action

WEIGHTS = {"miss": 2.0, "holding": 0.5, "tardiness": 0.25}
TBT = {"tbt_s": 0.06}
"""A time between tokens that the controllers can keep, whatever the TPOT target."""

DRAINED = [name for name, options in CASES.items() if "duration_s" not in options]


def records_of(env: LLMSchedEnv) -> RunResult:
    """The episode so far as a finished run: stamps as the simulator gives them at the end of a run."""
    simulator = env._lanes.simulator
    lane, servers = simulator.lane[0].copy(), simulator.servers[0].copy()
    rows = simulator.requests[0, : int(lane["loaded"])].copy()
    dropped = rows["status"] == DROPPED
    dropped_at = rows["last_token"][dropped]  # their last stamp, which `finish` takes away: they have no last token
    finish_rows(simulator.engine, rows, servers, float(lane["now"]))
    rows["last_token"][dropped] = dropped_at
    return RunResult(env.config, rows, simulator.log[0], simulator.bins[0], servers, lane, np.zeros(5600, int), 0.0)


def totals(steps: list[tuple]) -> dict[str, float]:
    """Sum of every reward term over an episode."""
    return {name: math.fsum(s[4]["reward_terms"][name] for s in steps[1:]) for name in ("miss", "holding", "tardiness")}


def left_at(rows: NDArray) -> NDArray[np.float64]:
    """When each request left the system, (N,) s."""
    ended = np.where(rows["status"] == DROPPED, rows["last_token"], rows["completion"])
    ended = np.where(np.isnan(rows["left"]), ended, rows["left"])
    return np.where(rows["status"] == REJECTED, rows["arrival"], ended)


def tardiness_s(rows: NDArray, slos: tuple[SLO, ...], until: float = math.inf) -> float:
    """Sum over requests of the time in the system after the first deadline that passed, one request at a time."""
    total = 0.0
    for row, left in zip(rows, left_at(rows), strict=True):
        left = min(left, until) if not math.isnan(left) else until
        slo = slos[row["slo_class"]]
        missed = [
            row["arrival"] + target
            for stamp, target in ((row["first_token"], slo.ttft_s), (row["completion"], slo.e2e_s))
            if not stamp <= row["arrival"] + target
        ]
        if row["status"] != REJECTED and missed:
            total += max(0.0, left - min(missed))
    return total


@pytest.mark.parametrize("action", ["multidiscrete", "ladder"])
@pytest.mark.parametrize("name", DRAINED)
def test_sums_of_the_terms(name: str, action: str) -> None:
    """miss: - share of what metrics calls misses; holding: - mean time in the system; tardiness: by brute force."""
    env = LLMSchedEnv(**options_of(name, action=action, reward=WEIGHTS))
    for seed in range(3):
        steps = rollout(env, seed, masked=seed > 0)
        result = records_of(env)
        rows, n, sums = result.requests, len(result.requests), totals(steps)
        assert steps[-1][2] and not steps[-1][3]
        assert set(np.unique(rows["status"])) <= {COMPLETED, REJECTED, DROPPED, REFUSED, ABANDONED}
        assert sums["miss"] == pytest.approx(-(~meets_slo(result)).sum() / n, rel=1e-12, abs=1e-12)
        assert sums["holding"] == pytest.approx(-(left_at(rows) - rows["arrival"]).sum() / n, rel=1e-9)
        assert sums["tardiness"] == pytest.approx(-tardiness_s(rows, env.config.slos) / n, rel=1e-9, abs=1e-12)
        for _, reward, _, _, info in steps[1:]:
            terms = info["reward_terms"]
            assert reward == pytest.approx(sum(WEIGHTS[term] * terms[term] for term in terms), rel=1e-12)
            assert max(terms.values()) <= 0.0
        clock = [step[4]["time_s"] for step in steps]
        np.testing.assert_allclose(np.diff(clock), [step[4]["elapsed_s"] for step in steps[1:]], rtol=0, atol=1e-9)


def test_the_cases_have_corners() -> None:
    """Rejections, drops, preemptions and misses of every kind occur in the cases above."""
    seen = dict.fromkeys(("rejected", "dropped", "preempted", "misses"), 0)
    for name in DRAINED:
        env = LLMSchedEnv(**options_of(name))
        metrics = rollout(env, 0)[-1][4]["episode_metrics"]
        for key in ("rejected", "dropped", "preempted"):
            seen[key] += metrics[key]
        seen["misses"] += metrics["slo_attainment"] < 1.0
    assert all(seen.values()), seen


def test_mean_latency_is_the_holding_cost() -> None:
    """Little's law in the names that users see: the return at weight 1 is minus the mean E2E latency."""
    env = LLMSchedEnv(**LLAMA2, requests=100, reward={"miss": 0.0, "holding": 1.0})
    steps = rollout(env, 0)
    summary = summarize(records_of(env))
    assert math.fsum(step[1] for step in steps) == pytest.approx(-summary["mean_e2el_ms"] / 1000.0, rel=1e-9)
    assert steps[-1][4]["episode_metrics"]["mean_e2e_s"] == pytest.approx(summary["mean_e2el_ms"] / 1000.0, rel=1e-9)


def test_default_weights() -> None:
    """Return = - share of misses - 0.01 x mean latency in s."""
    env = LLMSchedEnv(**{**LLAMA2, "slo": {"e2el": 8000}}, requests=100)
    steps = rollout(env, 0)
    metrics = steps[-1][4]["episode_metrics"]
    expected = -(1.0 - metrics["slo_attainment"]) - 0.01 * metrics["mean_e2e_s"]
    assert 0.0 < metrics["slo_attainment"] < 1.0
    assert math.fsum(step[1] for step in steps) == pytest.approx(expected, rel=1e-9)


def test_two_classes_of_requests() -> None:
    """Each request is held to the targets of its own class."""
    base = LLMSchedEnv(**LLAMA2).config
    slos = (SLO(e2e_s=10.0, share=0.5), SLO(ttft_s=1.0, tpot_s=0.045, share=0.5, name="fast"))
    own = own_requests(200)
    own = dataclasses.replace(own, slo_class=(np.arange(200) % 2).astype(np.int8))
    env = LLMSchedEnv(simulation=dataclasses.replace(base, slos=slos), requests=200)
    env.reset(options={"requests": own})
    rng, over = np.random.default_rng(0), False
    steps: list[tuple] = [()]
    while not over:
        steps.append(env.step(valid_action(env, rng)))
        over = steps[-1][2]
    result = records_of(env)
    misses = ~meets_slo(result)
    assert misses[::2].any() and misses[1::2].any() and not misses.all()
    assert totals(steps)["miss"] == pytest.approx(-misses.mean(), rel=1e-12)
    assert totals(steps)["tardiness"] == pytest.approx(-tardiness_s(result.requests, slos) / 200, rel=1e-9)


def test_a_miss_is_charged_when_the_deadline_passes() -> None:
    """Requests that no server takes for 20 s: nothing before their deadline of 5 s, all of it after."""
    own = Requests.checked([1.0, 1.5, 21.0, 40.0], [10] * 4, [5] * 4)
    env = LLMSchedEnv(**{**LLAMA2, "slo": {"e2el": 5000}}, requests=4, bins=1, servers=1)
    env.reset(options={"requests": own})
    _, _, _, _, info = env.step((1, 0))
    assert info["time_s"] == 1.5 and info["reward_terms"] == {"miss": 0.0, "holding": -0.5 / 4, "tardiness": 0.0}
    _, _, _, _, info = env.step((1, 0))
    assert info["time_s"] == 21.0 and info["reward_terms"]["miss"] == -2 / 4
    assert info["reward_terms"]["holding"] == pytest.approx(-2 * 19.5 / 4)
    assert info["reward_terms"]["tardiness"] == pytest.approx(-(15.0 + 14.5) / 4)


# Ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slo", [{"e2el": 9000}, {"ttft": 4000, "tpot": 45}, {"ttft": 1000, "tpot": 60, "e2el": 20_000}, {"tpot": 32}]
)
@pytest.mark.parametrize("kv_tokens", [None, 2500])
def test_truncation_at_a_time(slo: dict[str, float], kv_tokens: float | None) -> None:
    """At `duration_s`: truncated, not terminated; charged is what is due by then; metrics as of a cut-off run."""
    for seed in range(6):
        env = LLMSchedEnv(
            **{**LLAMA2, "rate": 6.0, "slo": slo},
            requests=None,
            duration_s=30.0,
            servers=2,
            kv_tokens=kv_tokens,
            controller=TBT,
        )
        steps = rollout(env, seed)
        info, result = steps[-1][4], records_of(env)
        assert steps[-1][2:4] == (False, True) and info["time_s"] == 30.0
        rows, n = result.requests, len(result.requests)
        summary, metrics = summarize(result), info["episode_metrics"]
        for key in ("completed", "rejected", "dropped", "unfinished", "slo_attainment"):
            assert metrics[key] == pytest.approx(summary[key], rel=1e-12), key
        assert metrics["unfinished"] > 0
        assert totals(steps)["miss"] == pytest.approx(-result.counts["misses"] / n, rel=1e-12)
        inside = np.minimum(np.nan_to_num(left_at(rows), nan=30.0), 30.0) - rows["arrival"]
        assert totals(steps)["holding"] == pytest.approx(-inside.sum() / n, rel=1e-9)
        assert totals(steps)["tardiness"] == pytest.approx(
            -tardiness_s(rows, env.config.slos, 30.0) / n, rel=1e-9, abs=1e-12
        )
        assert result.counts["misses"] <= (~meets_slo(result)).sum()
        assert not (rows["status"] == PENDING).any()


def test_requests_and_a_time() -> None:
    """All requests served before `duration_s` is termination; where more would have come the time truncates."""
    drained = rollout(LLMSchedEnv(requests=5, duration_s=1000.0), 0)
    assert drained[-1][2:4] == (True, False) and drained[-1][4]["time_s"] < 100.0
    assert [step[1:4] for step in drained] == [step[1:4] for step in rollout(LLMSchedEnv(requests=5), 0)]
    own = Requests.checked([1.0, 2.0], [500, 600], [5, 5])
    for options in ({"workload": own, "bins": 1, "requests": None}, {"requests": None, "rate": 0.001}):
        env = LLMSchedEnv(duration_s=500.0, **options)
        steps = rollout(env, 0)
        assert steps[-1][2:4] == ((True, False) if "workload" in options else (False, True))
        assert steps[-1][4]["episode_metrics"]["unfinished"] == 0
        assert (steps[-1][4]["time_s"] == 500.0) == ("workload" not in options)
    assert rollout(LLMSchedEnv(requests=500, duration_s=10.0, rate=20.0), 0)[-1][2:4] == (False, True)


def test_own_requests_of_a_reset_are_all_that_come() -> None:
    """Also where episodes otherwise last for a time."""
    env = LLMSchedEnv(requests=None, duration_s=500.0, rate=0.1)
    env.reset(seed=0, options={"requests": Requests.checked([1.0], [500], [5])})
    *_, terminated, truncated, info = env.step((env.config.queueing.num_bins, 1))
    assert (terminated, truncated) == (True, False) and info["time_s"] < 10.0


def test_metrics_of_an_episode_that_a_wrapper_cut_off() -> None:
    """`gym.make(max_episode_steps=...)` wraps the environment; `episode_metrics()` tells what the info cannot."""
    env = gym.make("LLMSched-v0", max_episode_steps=3, requests=50)
    own = LLMSchedEnv(max_episode_steps=3, requests=50)
    env.reset(seed=0)
    own.reset(seed=0)
    for _ in range(3):
        found, kept = env.step((4, 2)), own.step((4, 2))
    assert found[3] and "episode_metrics" not in found[4]
    assert env.unwrapped.episode_metrics() == kept[4]["episode_metrics"]  # type: ignore[attr-defined]


def test_decisions_and_time_both_limited() -> None:
    """The first limit truncates; at the last decision of a drained episode it is termination that counts."""
    options: dict[str, Any] = {"requests": None, "duration_s": 30.0, "rate": 6.0}
    free = rollout(LLMSchedEnv(**options), 0)
    for limit in (1, 5, len(free) - 1, len(free), 10_000):
        steps = rollout(LLMSchedEnv(max_episode_steps=limit, **options), 0)
        assert len(steps) - 1 == min(limit, len(free) - 1)
        assert [s[2:4] for s in steps[1:]] == [(False, False)] * (len(steps) - 2) + [(False, True)]
        assert "episode_metrics" in steps[-1][4]
    drained = rollout(LLMSchedEnv(requests=30), 0)
    steps = rollout(LLMSchedEnv(requests=30, max_episode_steps=len(drained) - 1), 0)
    assert steps[-1][2:4] == (True, False)


def test_termination_is_at_the_last_completion() -> None:
    """The clock stops where the last request is released."""
    env = LLMSchedEnv(requests=40)
    info = rollout(env, 2)[-1][4]
    rows = records_of(env).requests
    assert info["time_s"] == rows["completion"].max()
    assert info["episode_metrics"]["completed"] == 40 and info["episode_metrics"]["unfinished"] == 0


def test_rejections_before_the_first_decision_are_paid_for() -> None:
    """A request that fits nowhere is a miss although no server was asked yet: the first step says so."""
    own = Requests.checked([1.0, 2.0, 3.0, 4.0], [9000, 9000, 10, 9000], [5] * 4)
    env = LLMSchedEnv(requests=4, bins=1, kv_tokens=1000)
    env.reset(options={"requests": own})
    steps: list[tuple] = [(), env.step((1, 1))]
    while not steps[-1][2]:
        steps.append(env.step((1, 1)))
    assert steps[-1][4]["episode_metrics"]["rejected"] == 3
    assert totals(steps)["miss"] == -3 / 4


def test_an_episode_in_which_nothing_fits() -> None:
    """Nobody is ever asked: the first step ends it, and every request is a miss."""
    own = Requests.checked([1.0, 2.0], [9000, 9000], [5, 5])
    env = LLMSchedEnv(requests=2, bins=1, kv_tokens=1000)
    env.reset(options={"requests": own})
    _, _, terminated, truncated, info = env.step((1, 1))
    assert (terminated, truncated) == (True, False)
    assert info["reward_terms"] == {"miss": -1.0, "holding": 0.0, "tardiness": 0.0}
    assert (
        info["episode_metrics"]["decisions"] == 0
        and info["episode_metrics"]["rejected"] == 2
        and info["episode_metrics"]["slo_attainment"] == 0.0
    )
