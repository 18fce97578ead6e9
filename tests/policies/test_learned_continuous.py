"""The learned scheduler in the engine `continuous`: its files, its network against a plain one, and whole runs."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched.eval import benchmark
from llmsched.policies import Bound, parse
from llmsched.policies.network import checkpoint, continuous_features, continuous_scores
from llmsched.policies.network.continuous_layout import FEATURES, INPUTS, LAYOUT, shapes
from llmsched_env import datafiles
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.core.layout import RECORD
from llmsched_env.profiles import load_profile
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.targets import alone_slo
from llmsched_env.workload.workload import Workload
from tests.policies.test_learned import random_arrays as batch_arrays

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {"command": "none", "engine": "continuous"}
USABLE = [name for name in datafiles.shipped("profiles") if load_profile(name).form != "batch-length"]


def random_arrays(hidden: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Weights that have been through nothing."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in shapes(hidden).items()}


def saved(folder: Path, seed: int = 0) -> str:
    """The text that names `network` with random weights."""
    checkpoint.save(folder / "random", random_arrays(3, seed), ABOUT)
    return f"network:path={folder}/random"


def config(servers: int = 4, bins: int = 4, profile: str = "h100-80gb_llama2-70b_tp4") -> SimConfig:
    """A system whose targets fit its hardware."""
    edges = bin_edges(Workload("azure-conv", requests=2), bins)
    slo = alone_slo(load_profile(profile), "azure-conv")
    many = (Server(load_profile(profile)),) * servers
    return SimConfig(many, Queueing(edges), slos=(slo,), engine="continuous", max_batch=256)


def run(bound: Bound, system: SimConfig, load: float = 1.0, requests: int = 400) -> Any:
    """A run at about ``load`` times what the servers can do with twelve requests at a time."""
    slo = system.slos[0]
    rate = 12.0 * load * len(system.servers) / (200.0 * slo.tpot_s)
    drawn = Workload("azure-conv", requests=requests, rate=rate).draw(3)
    ready = bound.ready(system)
    return simulate(ready.config, drawn, ready.decide, **ready.options)


# The files ---------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    arrays = random_arrays(3)
    checkpoint.save(tmp_path / "mine", arrays, ABOUT)
    found = checkpoint.load(tmp_path / "mine.npz")
    assert found.engine == "continuous" and found.hidden == 3 and found.packed[0] == 3
    assert all(np.array_equal(found.arrays[key], arrays[key]) for key in arrays)
    assert len(found.packed) == 1 + sum(array.size for array in arrays.values())


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("features", ["room"], f"its features has 1 entries, here there are {INPUTS}"),
        ("features", ["x", *FEATURES[1:]], "entry 0 of its features is 'x', here 'room'"),
        ("actions", "size only", "its actions are 'size only'"),
    ],
)
def test_another_layout_is_refused_with_the_reason(tmp_path: Path, part: str, value: Any, reason: str) -> None:
    checkpoint.save(tmp_path / "mine", random_arrays(2), ABOUT | {"layout": LAYOUT | {part: value}})
    with pytest.raises(ValueError, match=reason) as caught:
        checkpoint.load(tmp_path / "mine")
    assert "\n" not in str(caught.value)


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "mine", random_arrays(2), ABOUT)
    about = tmp_path / "mine.json"
    about.write_text(about.read_text().replace('"engine": "continuous"', '"engine": "fluid"'))
    with pytest.raises(ValueError, match="engine 'fluid' is not known: give one for batch or continuous"):
        checkpoint.load(tmp_path / "mine")


def test_the_network_of_the_other_engine_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "batch", batch_arrays(2), {"command": "none"})
    with pytest.raises(ValueError, match=r"trained for the engine 'batch', but this run is of 'continuous': give"):
        parse(f"network:path={tmp_path}/batch").ready(config())
    plain = SimConfig((Server(load_profile("ideal")),), slos=(SLO(e2e_s=9.0),))
    with pytest.raises(ValueError, match=r"trained for the engine 'continuous', but this run is of 'batch': give"):
        parse(saved(tmp_path)).ready(plain)


def test_the_command_line_refuses_it_in_one_line() -> None:
    path = "network:path=policies/network/weights/network-batch"
    command = [sys.executable, "eval/compare.py", "--engine", "continuous", "--policies", path, "--requests", "50"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stdout == ""
    assert "trained for the engine 'batch'" in ended.stderr and len(ended.stderr.splitlines()) == 1


# The network -------------------------------------------------------------------------------------------------------


TOKEN_S, BUDGET = 2e-4, 700.0
"""Time of a prompt token on every server of the records below, s, and the tokens of an iteration."""


def plain_features(r: Any, k: int, token_s: float = TOKEN_S, budget: float = BUDGET) -> list[float]:
    """The features of the head of bin ``k``, written anew, in the order of their names."""
    any_, members = int(r.num_bins), int(r.running) + 1
    deadline = min(r.slo_ttft, r.slo_e2e)
    ttft = deadline if math.isfinite(deadline) else 30.0
    tpot = r.slo_tpot if math.isfinite(r.slo_tpot) else 0.1
    mean = max(float(r.mean_tokens[any_]), 1.0)
    overdue = int(r.queue_length[r.overdue]) if r.overdue >= 0 else 0
    on_time, servers = int(r.waiting) - overdue, int(r.num_servers)
    prompt, predicted = int(r.head_prompt[k]), max(int(r.head_predicted[k]), 1)
    target, is_overdue = max(int(r.target[any_]), 1), bool(k == r.overdue)
    bounds = float(r.low[k] + r.high[k]) / 2.0
    expected = float(r.rate_slow) * ttft / servers
    ahead = (float(r.prefill_left) + prompt) * token_s
    steps, chunk = prompt * token_s / tpot, budget * token_s / tpot
    decoding = max(float(r.batch_time[k]) - prompt * token_s, 0.0) / max(predicted - 1, 1)
    named = {
        "room": max(1.0 - members / target, -2.0),
        "crowded": members / int(r.max_batch),
        "step": min(float(r.tau[any_]) / tpot, 3.0),
        "step_of_head": min(float(r.batch_time[k]) / predicted / tpot, 3.0),
        "age": min(float(r.now - r.head_arrival[k]) / ttft, 3.0),
        "prompt": prompt / (prompt + mean),
        "output": predicted / (predicted + mean),
        "backlog": float(r.prefill_left) / (float(r.prefill_left) + mean),
        "memory": (float(r.kv_used) + prompt) / float(r.kv_tokens),
        "memory_promised": min((float(r.kv_used) + prompt + 0.5 * members * predicted) / float(r.kv_tokens), 3.0),
        "waiting": on_time / (on_time + 4.0 * servers),
        "overdue_waiting": overdue / (overdue + 4.0 * servers),
        "overdue": float(is_overdue),
        "lost": float(is_overdue and r.head_deadline[k] < r.now),
        "rate": expected / (expected + 8.0),
        "above_mean": min(max((int(r.running) - int(r.in_service) / servers) / target, -1.0), 1.0),
        "share": 0.0 if is_overdue else int(r.queue_length[k]) / max(on_time, 1),
        "room_for_tokens": max(1.0 - members / max(bounds, 1.0), -2.0),
        "first": float(r.head_number[k] == r.head_number[any_]),
        "urgency": float(np.clip((float(r.head_deadline[k]) - float(r.now) - ahead) / ttft, -2.0, 2.0)),
        "prefill_ahead": ahead / (ahead + ttft),
        "prefill_steps": steps / (steps + 4.0),
        "step_next": min(decoding / tpot, 3.0),
        "chunk": chunk / (chunk + 4.0),
        "prefill_load": min(float(r.rate_fast) * mean * token_s / servers, 3.0),
    }
    assert tuple(named) == FEATURES
    return list(named.values())


def plain_choice(r: Any, arrays: dict[str, NDArray[np.float64]]) -> tuple[int, int]:
    """What continuous_scores.choose_admission answers, with arrays."""
    bins = int(r.num_bins)
    only_overdue = bool(r.overdue >= 0) and r.queue_length[r.overdue] == r.waiting
    scores = {}
    for k in [*range(bins), *([bins + 1] if only_overdue else [])]:
        if r.queue_length[k] > 0:
            inputs = np.array(plain_features(r, k))
            hidden = np.maximum(arrays["bias"] + arrays["features"] @ inputs, 0.0)
            scores[k] = arrays["out"] @ hidden + arrays["straight"] @ inputs + arrays["offset"][0]
    best = max(scores, key=scores.__getitem__, default=None)
    return (best, int(r.running) + 1) if best is not None and scores[best] > 0.0 else (bins, 0)


def random_record(rng: np.random.Generator, bins: int) -> Any:
    """A record that could be one: with an overdue queue, queues add up."""
    row = np.zeros(1, RECORD).view(np.recarray)
    r = row[0]
    endless = rng.random() < 0.3
    r.now, r.num_bins, r.overdue, r.num_servers, r.max_batch = 100.0, bins, bins + 1, rng.integers(1, 17), 256
    r.slo_ttft, r.slo_tpot, r.slo_e2e = (math.inf,) * 3 if endless else (2.0, 0.1, 60.0)
    r.kv_tokens = math.inf if endless else 40_000.0
    r.running, r.in_service = rng.integers(0, 60), rng.integers(0, 300)
    r.rate_fast, r.server = rng.uniform(0, 60), rng.integers(0, r.num_servers)
    r.rate_slow, r.kv_used, r.prefill_left = rng.uniform(0, 40), rng.uniform(0, 30_000), rng.uniform(0, 3_000)
    r.queue_length[:bins] = rng.integers(0, 9, bins) * (rng.random(bins) < 0.6)
    if rng.random() < 0.3:
        r.queue_length[:bins] = 0
    r.queue_length[bins + 1] = rng.integers(0, 9)
    in_bins, overdue = r.queue_length[:bins].sum(), r.queue_length[bins + 1]
    r.waiting, r.queue_length[bins] = in_bins + overdue, in_bins if in_bins else overdue
    r.head_number[:bins] = rng.permutation(bins)
    filled = [k for k in range(bins) if r.queue_length[k] > 0]
    r.head_number[bins + 1] = bins if overdue else -1
    r.head_number[bins] = min((r.head_number[k] for k in filled), default=r.head_number[bins + 1])
    for name, most in (("head_prompt", 5_000), ("head_predicted", 900), ("target", 90)):
        r[name][: bins + 2] = rng.integers(0, most, bins + 2)
    for name, low, high in (("low", 1, 60), ("high", 60, 256), ("mean_tokens", 0, 2_000), ("batch_time", 0, 60)):
        r[name][: bins + 2] = rng.uniform(low, high, bins + 2)
    r.tau[: bins + 2], r.head_arrival[: bins + 2] = rng.uniform(0, 0.2), rng.uniform(90, 100, bins + 2)
    r.head_deadline[: bins + 2] = r.head_arrival[: bins + 2] + min(r.slo_ttft, 5.0)
    return r


@pytest.mark.parametrize("bins", [2, 5, 9])
def test_the_compiled_network_is_the_plain_one(bins: int) -> None:
    rng = np.random.default_rng(bins)
    answers = set()
    for seed in range(120):
        arrays, record = random_arrays(3, seed), random_record(rng, bins)
        times = np.where(np.arange(record.num_servers) == record.server, TOKEN_S, 1.0)
        numbers = np.concatenate([checkpoint.Checkpoint(arrays, ABOUT).packed, [BUDGET], times])
        found = continuous_scores.choose_admission(record, numbers)
        assert found == plain_choice(record, arrays)
        answers.add(found[0])
    assert answers == set(range(bins + 2))


@pytest.mark.parametrize("bins", [2, 5])
def test_every_feature_is_the_plain_one(bins: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(60):
        record, inputs = random_record(rng, bins), np.zeros(INPUTS)
        ttft_s, tpot_s, mean, waiting = continuous_features.write_shared(record, TOKEN_S, BUDGET, inputs)
        for k in (*range(bins), bins + 1):
            continuous_features.write_head(record, k, TOKEN_S, ttft_s, tpot_s, mean, waiting, inputs)
            np.testing.assert_allclose(inputs, plain_features(record, k), atol=1e-12)


# Runs --------------------------------------------------------------------------------------------------------------


def test_what_it_sets() -> None:
    found = parse("network").configure(config())
    assert found.continuous.admission == "prompt" and found.continuous.prefill == "chunked"
    assert found.queueing.overdue_factor == 5.0 and found.queueing.overdue_batch_factor is None
    # 0.4 x the TPOT target of chunks at 218.2 ms for 2,048 tokens, and 100
    assert found.continuous.token_budget == round(100 + 0.4 * found.slos[0].tpot_s / (0.21815 / 2048))
    assert found.max_batch == 256
    assert parse("network:overdue=4").configure(config()).queueing.overdue_factor == 4.0
    slow = config(profile="a100-80gb_llama2-70b_tp4")
    assert parse("network").configure(slow).continuous.token_budget < found.continuous.token_budget


def test_a_budget_takes_the_place_of_its_own_and_bounds_the_running_set() -> None:
    found = parse("network:budget=200").configure(config())
    assert found.continuous.token_budget == 200.0 and found.max_batch == 200
    assert parse("network:budget=8192").configure(config()).max_batch == 256
    with pytest.raises(ValueError, match=r"budget=512 belongs to the engine 'continuous': drop it, or give") as caught:
        parse("network:budget=512").configure(SimConfig((Server(load_profile("ideal")),), slos=(SLO(e2e_s=9.0),)))
    assert "\n" not in str(caught.value)


def test_it_is_told_what_the_hardware_takes() -> None:
    """After the weights: tokens of an iteration, then the time of a prompt token on every server."""
    fast, slow = (Server(load_profile(f"{gpu}-80gb_llama2-70b_tp4")) for gpu in ("h100", "a100"))
    mixed = replace(config(), servers=(fast, slow))
    numbers = parse("network:budget=300").ready(mixed).params
    weights = checkpoint.load_shipped("continuous").packed
    assert numbers[: len(weights)].tolist() == weights.tolist()
    times = [server.profile.prefill_ms([2048.0]) / 2048.0 / 1000.0 for server in (fast, slow)]
    np.testing.assert_allclose(numbers[len(weights) :], [300.0, *times], rtol=1e-12)
    endless = replace(mixed, slos=(SLO(e2e_s=9.0),))
    assert np.isfinite(parse("network").ready(endless).params).all()


def test_equal_runs_are_equal_and_weights_matter(tmp_path: Path) -> None:
    first, again = (run(parse("network"), config(), load=4.0).requests.tobytes() for _ in range(2))
    assert first == again
    assert first != run(parse(saved(tmp_path)), config(), load=4.0).requests.tobytes()


@pytest.mark.parametrize("profile", USABLE)
def test_one_policy_for_every_profile(profile: str) -> None:
    """All is served, at light load nearly all of it in time."""
    system = config(profile=profile)
    result = run(parse("network"), system, load=0.2)
    rows, slo = result.requests, system.slos[0]
    assert int(result.counts["completed"]) == len(rows)
    late = rows["first_token"] - rows["arrival"] > slo.ttft_s
    late |= (rows["last_token"] - rows["first_token"]) / np.maximum(rows["output"] - 1, 1) > slo.tpot_s
    assert late.mean() < 0.1


@pytest.mark.parametrize(("servers", "bins"), [(1, 1), (1, 4), (3, 8), (16, 4), (16, 2)])
def test_one_policy_for_any_number_of_servers_and_bins(servers: int, bins: int) -> None:
    result = run(parse("network"), config(servers, bins), load=1.5)
    assert int(result.counts["completed"]) == 400
    assert int(result.counts["empty_choices"]) == 0


def test_random_weights_leave_nothing_behind(tmp_path: Path) -> None:
    for seed in range(6):
        result = run(parse(saved(tmp_path, seed)), config(2, 3), requests=200)
        assert int(result.counts["completed"]) == 200


@pytest.mark.parametrize("routing", ["round-robin", "least-outstanding", "join-shortest-kv"])
def test_it_runs_where_arrivals_are_sent_to_servers(routing: str) -> None:
    system = config(3)
    routed = replace(system, continuous=replace(system.continuous, routing=routing))
    assert int(run(parse("network"), routed, load=1.5).lane["counts"]["completed"]) == 400


def test_no_torch_is_loaded() -> None:
    code = "import sys; from llmsched.policies import network; network.checkpoint.load_shipped('batch'); "
    code += "print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"


def test_the_benchmark_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--requests", "300", "--seeds", "2", "--loads", "0.8", "--cases", "1 server", "--jobs", "1"]
    of_2023 = ["--scenario", "llama2-h100"]
    assert benchmark.main(["--engine", "continuous", "--rivals", "sarathi", *of_2023, *few]) == 0
    told = capsys.readouterr().out
    assert "engine continuous, TTFT target 4 x and TPOT target 3.5 x" in told and "sarathi" in told
    with pytest.raises(SystemExit):
        benchmark.main(["--engine", "continuous", "--cases", "2 servers"])
    assert "mooncake-conv" in capsys.readouterr().err
