"""LLMSchedSmall-v0 and its optimum: the solver against theory and brute force, the simulator against the solver."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from scipy.stats import poisson

from llmsched.eval.best_possible import smdp
from llmsched.eval.best_possible.smdp import BatchQueue, control_limit, solve
from llmsched.eval.experiments import optimum as experiment
from llmsched.eval.experiments.optimum import System, simulate_policies, table_policy
from llmsched.eval.optimum import main
from llmsched.eval.runs.intervals import interval
from llmsched.policies import names, parse, parse_list
from llmsched_env.envs.small import (
    OUTPUT,
    PROMPT,
    LLMSchedSmallEnv,
    LLMSchedSmallVectorEnv,
    arrival_rate,
    queue_length,
    service_s,
    simulation,
)
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate

SYSTEM = System(load=0.75, max_batch=4, requests=100_000)
TINY = BatchQueue(rate=0.5, service_s=(2.0, 2.2))


@pytest.fixture(scope="module")
def best() -> smdp.Optimum:
    """The optimum of the default system."""
    return solve(SYSTEM.queue)


def chain_cost(queue: BatchQueue, policy: NDArray[np.int64], last: int) -> float:
    """Mean number in the system where a queue of ``last`` admits no more, by linear equations; full batches beyond."""
    left, right = np.zeros((last + 2, last + 2)), np.zeros(last + 2)
    for q in range(last + 1):
        b = int(policy[q]) if q < len(policy) else queue.max_batch
        time_s = queue.service_s[b - 1] if b else 1.0 / queue.rate
        after = np.zeros(last + 1)
        if b:
            count = np.arange(last - (q - b))
            after[q - b : last] = poisson.pmf(count, queue.rate * time_s)
            after[last] = 1.0 - after.sum()
        else:
            after[min(q + 1, last)] = 1.0
        left[q, : last + 1], left[q, last + 1] = -after, time_s
        left[q, q] += 1.0
        right[q] = q * time_s + (0.5 * queue.rate * time_s**2 if b else 0.0)
    left[last + 1, 0] = 1.0
    return float(np.linalg.solve(left, right)[-1])


# ---- the solver


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_single_requests_are_the_md1_queue(load: float) -> None:
    """Batches of one: Pollaczek and Khinchine."""
    found = solve(BatchQueue(load, (1.0,)))
    assert found.cost == pytest.approx(load + load**2 / (2.0 * (1.0 - load)), abs=found.error + 1e-12)


def test_the_optimum_is_that_of_all_policies_tried_one_by_one() -> None:
    """Batches to 2, every table for queues of 1 to 4 (and full batches beyond), each by linear equations."""
    tables = itertools.product((0,), (0, 1), *[(0, 1, 2)] * 3)
    costs = {table: chain_cost(TINY, np.array(table), 80) for table in tables}
    found = solve(TINY)
    assert found.cost == pytest.approx(min(costs.values()), abs=1e-7)
    assert min(costs, key=lambda table: costs[table]) == tuple(found.policy[:5])
    assert len(costs) == 54


def test_the_cost_of_a_policy_is_that_of_its_linear_equations() -> None:
    for limit in (1, 2, 4):
        policy = control_limit(SYSTEM.queue, limit, 10)
        found = solve(SYSTEM.queue, policy=policy)
        assert found.cost == pytest.approx(chain_cost(SYSTEM.queue, policy, 150), rel=1e-8)
        assert np.array_equal(found.policy[:11], policy)


@pytest.mark.parametrize(("load", "max_batch"), [(0.1, 2), (0.3, 8), (0.75, 4), (0.9, 8), (0.95, 4)])
def test_the_bracket_holds_whatever_the_number_of_lengths(
    load: float, max_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q, 2 Q and 4 Q give brackets that overlap, of the width asked for; shorter queues cost less, and ever less so."""
    queue = System(load, max_batch, 1).queue
    first = solve(queue)
    assert 0 <= first.high - first.low <= smdp.TOLERANCE * first.low
    for batches in (32, 64):
        monkeypatch.setattr(smdp, "FIRST_BATCHES", batches)
        again = solve(queue)
        assert again.low <= first.high and first.low <= again.high
    lossy = [chain_cost(queue, first.policy, last) for last in (10 * max_batch, 20 * max_batch, 40 * max_batch)]
    assert lossy[0] <= lossy[1] + 1e-9 <= lossy[2] + 2e-9 <= first.high + 1e-7


def test_the_optimum_is_a_control_limit_that_rises_with_the_load(best: smdp.Optimum) -> None:
    assert best.limit == 3
    assert best.cost == pytest.approx(5.17341328, abs=1e-8)
    limits = [solve(System(load, 8, 1).queue).limit for load in (0.2, 0.5, 0.75, 0.9)]
    assert None not in limits and limits == sorted(limits) and limits[0] < limits[-1]  # type: ignore[type-var, operator]


def test_no_control_limit_is_cheaper(best: smdp.Optimum) -> None:
    costs = [solve(SYSTEM.queue, policy=control_limit(SYSTEM.queue, limit, 8)).cost for limit in (1, 2, 3, 4)]
    assert min(costs) == pytest.approx(best.cost, rel=1e-8) and np.argmin(costs) == 2
    assert costs[0] / best.cost == pytest.approx(1.0114, abs=1e-4)
    assert costs[3] / best.cost == pytest.approx(1.0246, abs=1e-4)


@pytest.mark.parametrize(
    ("rate", "service"), [(1.0, (1.0,)), (0.0, (1.0,)), (0.1, ()), (0.1, (1.0, 3.0)), (0.1, (0.0,)), (0.1, (np.inf,))]
)
def test_queues_that_have_no_optimum_are_refused(rate: float, service: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="give|is the cheapest"):
        BatchQueue(rate, service)


def test_a_bracket_that_cannot_be_closed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smdp, "MOST_STEPS", 50)
    with pytest.raises(
        ValueError, match=r"load 0\.9, batches to 1: value iteration does not close .* within \d+ steps"
    ):
        solve(BatchQueue(0.9, (1.0,)))


# ---- the simulator against the solver


def test_service_times_are_those_of_the_simulator() -> None:
    for b in (1, 2, 4):
        requests = Requests.checked(np.zeros(b), [PROMPT] * b, [OUTPUT] * b)
        run = simulate(simulation(), requests, parse("static:batch=4").decide, params=[4.0], log_batches=True)
        assert float(run.batches["end"][0]) == pytest.approx(service_s()[b - 1], rel=1e-12)
    assert service_s().tolist() == pytest.approx([3.025, 3.05, 3.075, 3.1])
    assert arrival_rate() == pytest.approx(0.75 * 4 / 3.1)


def test_the_optimal_policy_reaches_the_optimum_and_no_baseline_passes_it(best: smdp.Optimum) -> None:
    """Long runs, common arrivals: the solver's table within its interval, the others not below theirs."""
    scenario = SYSTEM.scenario
    bounds = [table_policy("optimal", best.policy), *parse_list("static,timeout,multibin-fixed:batch=4,aimd,window")]
    runs = simulate_policies([(bound, scenario) for bound in bounds], range(100, 112), jobs=2)
    found = interval([run.in_system for run in runs["optimal"]])
    assert found.half is not None and found.half < 0.01 * best.cost
    assert abs(found.mean - best.cost) < found.half
    for bound in bounds[1:]:
        gap = interval(
            [run.in_system - base.in_system for run, base in zip(runs[bound.label], runs["optimal"], strict=True)]
        )
        assert gap.half is not None and gap.mean > -gap.half, bound.label
    exact = solve(SYSTEM.queue, policy=control_limit(SYSTEM.queue, 1, 8)).cost
    assert abs(interval([run.in_system for run in runs["static"]]).mean - exact) < 0.01 * exact


def test_the_environment_costs_what_the_solver_says(best: smdp.Optimum) -> None:
    """The return of LLMSchedSmall-v0 under the optimal table, per second, over lanes."""
    lanes = 48
    env = gym.make_vec("LLMSchedSmall-v0", num_envs=lanes, requests=8000, autoreset_mode="Disabled")
    image, _ = env.reset(seed=7)
    cost, time_s, average = np.zeros(lanes), np.zeros(lanes), np.full(lanes, np.nan)
    while np.isnan(average).any():
        image, reward, terminated, _, info = env.step(best.policy[queue_length(image)])
        cost, time_s = cost - reward, time_s + info["elapsed_s"]
        average[terminated & np.isnan(average)] = (cost / time_s)[terminated & np.isnan(average)]
        if terminated.any():
            env.reset(options={"reset_mask": terminated})
    found = interval(average.tolist())
    assert found.half is not None and found.half < 0.01 * best.cost
    assert abs(found.mean - best.cost) < found.half


# ---- the environment


def test_both_ids_pass_the_checker() -> None:
    check_env(gym.make("LLMSchedSmall-v0", requests=50).unwrapped, skip_render_check=True)


def test_a_lane_is_the_scalar_environment() -> None:
    """Seeds seed + i, through the ends of episodes; the last observation comes with SAME_STEP."""
    vector = gym.make_vec("LLMSchedSmall-v0", num_envs=3, requests=30, autoreset_mode="SameStep")
    scalar = [gym.make("LLMSchedSmall-v0", requests=30) for _ in range(3)]
    rows, _ = vector.reset(seed=5)
    assert np.array_equal(rows, [env.reset(seed=5 + i)[0] for i, env in enumerate(scalar)])
    rng, ends = np.random.default_rng(0), 0
    for _ in range(200):
        masks = vector.unwrapped.action_masks()  # type: ignore[attr-defined]
        assert np.array_equal(masks, [env.unwrapped.action_masks() for env in scalar])  # type: ignore[attr-defined]
        actions = rng.integers(0, 5, 3)
        rows, reward, terminated, truncated, info = vector.step(actions)
        for i, env in enumerate(scalar):
            row, own, over, cut, _ = env.step(actions[i])
            assert (own, over, cut) == (reward[i], terminated[i], truncated[i])
            if over:
                ends += 1
                assert np.array_equal(row, info["final_obs"][i])
                row, _ = env.reset()
            assert np.array_equal(row, rows[i])
            assert queue_length(row) == env.unwrapped.record["waiting"]  # type: ignore[attr-defined]
    assert ends > 3


def test_the_queue_can_be_read_off_whatever_its_length() -> None:
    """Nobody is served until the last of 3,000 has come."""
    env = gym.make("LLMSchedSmall-v0", requests=3000, max_batch=3)
    image, over, longest = env.reset(seed=0)[0], False, 0
    while not over:
        inner: Any = env.unwrapped
        assert image in env.observation_space
        assert queue_length(image, 3) == inner.record["waiting"]
        longest = max(longest, inner.record["waiting"])
        image, _, over, _, _ = env.step(0 if inner.action_masks()[0] else 3)
    assert longest == 3000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"load": 1.0}, r"load=1\.0 is not allowed"),
        ({"load": 0}, "load=0 is not allowed"),
        ({"max_batch": 0}, "max_batch=0 is not allowed"),
        ({"requests": 0}, "requests=0 is not allowed"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, float], said: str) -> None:
    for make in (LLMSchedSmallEnv, LLMSchedSmallVectorEnv):
        with pytest.raises(ValueError, match=said):
            make(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [5, -1, 1.5, "2", (1, 2), None])
def test_bad_actions_are_refused(action: object) -> None:
    env = gym.make("LLMSchedSmall-v0", requests=10, disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="is not in Discrete"):
        env.step(action)
    vector = gym.make_vec("LLMSchedSmall-v0", num_envs=2)
    vector.reset(seed=0)
    for actions in ([1], [1, 5], [[1, 1], [1, 1]], [1.0, 2.0]):
        with pytest.raises(gym.error.InvalidAction):
            vector.step(actions)


# ---- the program


def test_the_program_prints_a_table_and_keeps_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--policies", "static,random", "--requests", "5000", "--seeds", "3", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "Optimum g* = 5.17341328 requests in the system" in text and "a control limit of 3" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert "grows" in lines["random"] and "±" in lines["optimal"]
    assert all(len(line) <= 120 for line in text.splitlines())
    kept = {file.name for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert kept == {"results.csv", "policy.csv", "summary.json", "manifest.json", "structure.png"}
    rows = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 3 and rows[1].startswith("optimal,0,")
    assert (tmp_path / "out" / "policy.csv").read_text().splitlines()[1:5] == ["0,0", "1,0", "2,0", "3,3"]


def test_json_is_the_summary_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policies", "static:batch=auto", "--requests", "2000", "--seeds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"system", "optimum", "policies", "notes"}
    assert found["optimum"]["control_limit"] == 3 and found["optimum"]["error"] < 1e-8
    assert [row["policy"] for row in found["policies"]] == ["optimal", "static:batch=auto"]
    assert found["policies"][1]["parameters"] == "static:batch=4"


def test_every_registered_scheduler_is_among_the_baselines() -> None:
    """But the networks and what simulates futures, which are not meant."""
    assert {bound.name for bound in parse_list(experiment.BASELINES)} >= set(names("batch")) - {
        "network",
        "ppo",
        "rollout",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--load", "1"], "'1' is not allowed: give a number from 0.1 to 0.95"),
        (["--load", "nan"], "'nan' is not allowed"),
        (["--max-batch", "0"], "'0' is not allowed: give a whole number from 1 to 16"),
        (["--requests", "10"], "'10' is not allowed"),
        (["--policies", "statik"], "'statik' is not a policy. Did you mean static?"),
        (["--polices", "static"], "--polices is not an option. Did you mean --policies?"),
        (["--policies", "static,"], "has an empty entry"),
        (["--seed", "-1"], "'-1' is not allowed"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    text = capsys.readouterr().err
    assert caught.value.code == 2
    assert text.startswith("optimum.py: error: ") and said in text and text.count("\n") == 1


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path / "file" / "out")])
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_pictures_say_which_environment_it_is() -> None:
    """The scalar and the vector environment, and not the title of `LLMSched-v0`."""
    env, other = (gym.make(name, render_mode="rgb_array", requests=20) for name in ("LLMSchedSmall-v0", "LLMSched-v0"))
    lanes = gym.make_vec("LLMSchedSmall-v0", num_envs=2, render_mode="rgb_array", requests=20)
    for each in (env, other, lanes):
        each.reset(seed=1)
    title = np.s_[:60, :400]
    ours, theirs, both = (np.asarray(each.render()) for each in (env, other, lanes))
    assert np.array_equal(ours[title], both[1][title])
    assert not np.array_equal(ours[title], theirs[title])
