"""The learned scheduler: its weights' files, its network against a plain one, and whole runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched.policies import Bound, parse
from llmsched.policies.network import batch_scores, checkpoint
from llmsched.policies.network.batch_layout import CHOICE, DERIVED, LAYOUT, OVERDUE, OWN, SHARED
from llmsched.policies.network.layouts import LAYOUTS
from llmsched_env import datafiles
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.core.layout import RECORD
from llmsched_env.core.view.observation import PER_BIN
from llmsched_env.envs.lanes import DEFAULT_SCALE_S
from llmsched_env.envs.spaces import ladder
from llmsched_env.profiles import load_profile
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.targets import alone_target_s
from llmsched_env.workload.workload import Workload

ROOT = Path(__file__).resolve().parents[2]
EMPTY = {"command": "none"}
NAMES = [name for name, *_ in PER_BIN]


def random_arrays(hidden: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Weights that have been through nothing."""
    rng = np.random.default_rng(seed)
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in LAYOUTS["batch"].shapes(hidden).items()}


# The files ---------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    arrays = random_arrays(3)
    checkpoint.save(tmp_path / "mine", arrays, EMPTY)
    for name in ("mine", "mine.npz", "mine.json"):
        found = checkpoint.load(tmp_path / name)
        assert found.hidden == 3 and found.about["command"] == "none"
        assert all(np.array_equal(found.arrays[key], arrays[key]) for key in arrays)
    assert found.packed.tolist() == LAYOUTS["batch"].pack(arrays).tolist()


@pytest.mark.parametrize("engine", LAYOUTS)
def test_the_shipped_ones_are_small_and_say_where_they_come_from(engine: str) -> None:
    found = checkpoint.load_shipped(engine)
    files = [checkpoint.SHIPPED[engine].with_suffix(end) for end in (".npz", ".json")]
    assert sum(file.stat().st_size for file in files) < 250_000
    assert "train/" in found.about["command"] and found.about["layout"] == LAYOUTS[engine].description
    assert found.engine == engine


@pytest.mark.parametrize("engine", LAYOUTS)
def test_the_policy_reads_the_weights_of_its_engine_alone(engine: str) -> None:
    ready = parse("network").ready(replace(config(), engine=engine))
    weights = checkpoint.load_shipped(engine).packed.tolist()
    assert ready.params.tolist()[: len(weights)] == weights and ready.memory_size == 0


@pytest.mark.parametrize("engine", LAYOUTS)
def test_packing_has_one_order_and_an_inverse(engine: str) -> None:
    """The hidden units, then every array in the order of the shapes; matrices by columns in `batch`, else by rows."""
    layout, rng = LAYOUTS[engine], np.random.default_rng(1)
    arrays = {name: rng.standard_normal(shape) for name, shape in layout.shapes(3).items()}
    packed = layout.pack({name: arrays[name] for name in reversed(arrays)})
    assert packed.tolist() == [3.0, *(x for name in layout.shapes(3) for x in arrays[name].ravel(layout.order))]
    back = layout.unpack(packed)
    assert list(back) == list(arrays) and all(np.array_equal(back[name], arrays[name]) for name in arrays)
    assert not layout.pack(layout.zeros(2))[1:].any()
    with pytest.raises(ValueError, match="make 3 hidden units"):
        layout.unpack(packed[:-1])


def changed(folder: Path, **fields: Any) -> Path:
    """A checkpoint whose JSON says something else."""
    checkpoint.save(folder / "mine", random_arrays(2), EMPTY)
    about = json.loads((folder / "mine.json").read_text())
    (folder / "mine.json").write_text(json.dumps(about | fields))
    return folder / "mine"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"format": "other/v9"}, r"format 'other/v9' is not known"),
        ({"layout": {}}, "made for another layout, its global are None"),
        ({"layout": LAYOUT | {"sized": ["part"]}}, "its sized has 1 entries, here there are 8"),
        (
            {"layout": LAYOUT | {"derived": ["x", *DERIVED[1:]]}},
            "entry 0 of its derived is 'x', here 'on_time'",
        ),
        ({"layout": LAYOUT | {"actions": "size only"}}, "its actions are 'size only'"),
        ({"hidden": 3}, "its arrays are not those of a network of 3 hidden units"),
        ({"hidden": None}, "its arrays are not those of a network of None"),
        ({"sha256": "0"}, "its hash is not the one"),
    ],
)
def test_another_layout_is_refused_with_the_reason(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        checkpoint.load(changed(tmp_path, **fields))
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such checkpoint"):
        checkpoint.load(tmp_path / "none")
    (tmp_path / "model.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="which runs code when loaded"):
        checkpoint.load(tmp_path / "model")
    stem = changed(tmp_path)
    stem.with_suffix(".npz").unlink()
    with pytest.raises(ValueError, match="the weights are missing"):
        checkpoint.load(stem)
    stem.with_suffix(".npz").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="cannot be read as plain arrays"):
        checkpoint.load(stem)
    np.savez(stem.with_suffix(".npz"), bias=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read as plain arrays"):  # it would take pickle
        checkpoint.load(stem)
    stem.with_suffix(".json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        checkpoint.load(stem)
    stem.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        checkpoint.load(stem)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    arrays = random_arrays(2)
    arrays["out"][1] = np.nan
    checkpoint.save(tmp_path / "mine", arrays, EMPTY)
    with pytest.raises(ValueError, match="not finite"):
        checkpoint.load(tmp_path / "mine")


def test_the_command_line_refuses_in_one_line() -> None:
    command = [sys.executable, "eval/compare.py", "--policies", "network:path=nowhere", "--requests", "50"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and run.stdout == ""
    assert "there is no such checkpoint" in run.stderr and len(run.stderr.splitlines()) == 1


# The network -------------------------------------------------------------------------------------------------------


def plain_scores(
    image: NDArray[np.float32], bins: int, max_batch: int, can_wait: bool, arrays: dict[str, NDArray]
) -> NDArray[np.float64]:
    """What network.batch.score computes, written anew with arrays; the names of DERIVED and SIZED in order.

    An overdue request cannot be in time and is not due; while others wait, the overdue queue is no choice and counts
    for nothing.
    """
    x = image.astype(np.float64)
    own = x[SHARED:].reshape(-1, OWN)
    queues = [k for k in range(len(own)) if k != bins]

    def stretched(values: NDArray) -> NDArray:
        return np.clip(values / np.maximum(1.0 - np.abs(values), 1e-6), -99.0, 99.0)

    def logistic(values: NDArray) -> NDArray:
        return 1.0 / (1.0 + np.exp(-values))

    count = np.rint(2.0 ** (20.0 * own[:, 0]) - 1.0)
    full = count / np.maximum(1.0, stretched(own[:, 1]))
    age, time, slack = stretched(own[:, 2]), stretched(own[:, 5]), stretched(own[:, 6])
    overdue, served = own[:, NAMES.index("overdue")] == 1.0, own[:, NAMES.index("served")] == 1.0
    if not overdue[bins]:
        served &= ~overdue
    hope = np.where(overdue, 0.0, 1.0)
    waiting = count[queues][overdue[bins] | ~overdue[queues]].sum()
    on_time = hope * np.clip((1.0 - time) / np.maximum(age, 0.01), 0.0, 1.0)
    derived = [
        on_time,
        np.log2(1.0 + full * on_time / (time + 0.02)) / 10.0,
        np.log2(1.0 + full) / 7.0,
        np.log2(1.0 + 100.0 * time / np.maximum(full, 1.0)) / 10.0,
        np.clip(slack, -1.0, 1.0),
        hope * logistic(40.0 * (0.1 - slack)),
        hope * logistic(15.0 * (0.3 - slack)),
        count / max(waiting, 1.0),
        np.arange(len(own)) == bins,
    ]
    choices = np.concatenate([own, np.stack(derived, axis=1)], axis=1)
    some = choices[queues][served[queues]]
    pooled = [some.max(axis=0), some.mean(axis=0)] if len(some) else [np.zeros(CHOICE)] * 2
    context = np.concatenate([x[:SHARED], *pooled])
    scores = np.full(1 + len(own) * len(ladder(max_batch)), -np.inf)
    if can_wait:
        hidden = np.maximum(arrays["wait_bias"] + arrays["wait_context"] @ context, 0.0)
        scores[0] = arrays["wait_out"] @ hidden + arrays["wait_straight"] @ context + arrays["wait_offset"][0]
    for k in range(len(own)):
        if not served[k]:
            continue
        target = max(1.0, float(np.rint(own[k, 7] * max_batch)))
        rungs = [float(size) for size in ladder(max_batch)[:-1]]
        for rung, size in enumerate([*rungs, target]):
            last = rung == len(rungs)
            before = rungs[rung - 1] if rung else 0.0
            if not last and size >= count[k] and not (count[k] > target and before < count[k]):
                continue
            taken = min(size, count[k])
            part = taken / count[k]
            spent = time[k] * (0.5 + 0.5 * taken / max(full[k], 1.0))
            timely = np.clip((1.0 - spent - age[k] * (1.0 - part)) / max(age[k] * part, 0.01), 0.0, 1.0)
            timely *= hope[k] * (age[k] < 99.0)
            sized = [
                part,
                math.log2(taken) / 7.0,
                float(taken == count[k]),
                float(last),
                timely,
                math.log2(1.0 + taken * timely / (spent + 0.02)) / 10.0,
                math.log2(1.0 + taken * timely) / 7.0,
                spent / (1.0 + spent),
            ]
            inputs = np.concatenate([context, choices[k], sized])
            weights = np.concatenate([arrays["context"], arrays["choice"], arrays["size"]], axis=1)
            hidden = np.maximum(arrays["bias"] + weights @ inputs, 0.0)
            straight = arrays["straight"] @ np.concatenate([choices[k], sized])
            scores[1 + k * (len(rungs) + 1) + rung] = arrays["out"] @ hidden + straight
    return scores


def random_image(rng: np.random.Generator, bins: int, max_batch: int) -> NDArray[np.float32]:
    """An observation that could be one: queues that add up, empty bins without entries, an overdue queue (empty in
    some), which `any` leaves out unless it is all there is."""
    image = rng.random(SHARED + (bins + 2) * OWN).astype(np.float32)
    own = image[SHARED:].reshape(bins + 2, OWN)
    queues = rng.integers(0, 300, bins) * (rng.random(bins) < 0.7)
    queues *= rng.random() < 0.8
    overdue = int(rng.integers(1, 300) * (rng.random() < 0.7))
    queues[0] += queues.sum() + overdue == 0
    in_bins = queues.sum()
    lengths = np.array([*queues, in_bins if in_bins else overdue, overdue])
    targets = rng.integers(1, max_batch + 1, bins + 2)
    own[:, 0], own[:, 7], own[:, 11] = np.log2(1 + lengths) / 20, targets / max_batch, lengths > 0
    own[:, 1] = lengths / (lengths + targets)
    own[:, 6] = rng.uniform(-1, 1, bins + 2)
    own[:, 12] = 0.0
    own[bins, 12], own[bins + 1, 12] = in_bins == 0, overdue > 0
    own[lengths == 0] = 0.0
    return image


@pytest.mark.parametrize("max_batch", [1, 100, 128])
@pytest.mark.parametrize("bins", [1, 4, 8])
def test_the_compiled_network_is_the_plain_one(bins: int, max_batch: int) -> None:
    rng = np.random.default_rng(bins)
    arrays = random_arrays(5, seed=bins)
    packed = checkpoint.Checkpoint(arrays, {}).packed
    for can_wait in (0, 1) * 15:
        image = random_image(rng, bins, max_batch)
        found = np.empty(1 + (bins + 2) * len(ladder(max_batch)))
        batch_scores.score_actions(image, bins, max_batch, can_wait, packed, found)
        np.testing.assert_allclose(found, plain_scores(image, bins, max_batch, bool(can_wait), arrays), atol=1e-9)


def test_the_scale_without_a_deadline_is_that_of_the_environments() -> None:
    assert batch_scores.SCALE_S == DEFAULT_SCALE_S


@pytest.mark.parametrize(
    ("servers", "bins", "found"), [(1, 4, "sjf"), (2, 8, "sjf"), (3, 4, "fifo"), (16, 2, "fifo"), (4, 1, "sjf")]
)
def test_the_order_inside_the_bins(servers: int, bins: int, found: str) -> None:
    assert parse("network").configure(config(servers, bins)).queueing.discipline == found


# Runs --------------------------------------------------------------------------------------------------------------


def config(servers: int = 4, bins: int = 4, profile: str = "h100-80gb_llama2-70b_tp4") -> SimConfig:
    """A system whose target fits its hardware."""
    edges = bin_edges(Workload("azure-conv", requests=2), bins)
    target = alone_target_s(load_profile(profile), "azure-conv")
    return SimConfig((Server(load_profile(profile)),) * servers, Queueing(edges), slos=(SLO(e2e_s=target),))


def bound_to(tmp_path: Path, seed: int = 0) -> Bound:
    """`network` with random weights."""
    checkpoint.save(tmp_path / "random", random_arrays(4, seed), EMPTY)
    return parse(f"network:path={tmp_path}/random")


def run(bound: Bound, system: SimConfig, load: float = 1.0, requests: int = 400) -> Any:
    """A run at about ``load`` times what the servers can do with batches of ten."""
    rate = 10.0 * load * len(system.servers) / system.slos[0].e2e_s
    drawn = Workload("azure-conv", requests=requests, rate=rate).draw(3)
    ready = bound.ready(system)
    return simulate(ready.config, drawn, ready.decide, **ready.options)


def test_equal_runs_are_equal_and_weights_matter(tmp_path: Path) -> None:
    first, again = (run(bound_to(tmp_path), config()).requests.tobytes() for _ in range(2))
    assert first == again
    assert first != run(bound_to(tmp_path, seed=1), config()).requests.tobytes()


@pytest.mark.parametrize("profile", datafiles.shipped("profiles"))  # the atlas is for the next weights
def test_one_policy_for_every_profile(profile: str) -> None:
    """All that is not too large for the memory is served, at light load nearly all of it in time."""
    system = config(profile=profile)
    result = run(parse("network"), system, load=0.3)
    rows = result.requests
    assert int(result.counts["completed"]) + int(result.counts["rejected"]) + int(result.counts["dropped"]) == len(rows)
    late = rows["completion"] - rows["arrival"] > system.slos[0].e2e_s
    assert late.mean() < 0.1


@pytest.mark.parametrize(("servers", "bins"), [(1, 1), (1, 4), (3, 8), (16, 4), (16, 2)])
def test_one_policy_for_any_number_of_servers_and_bins(servers: int, bins: int) -> None:
    result = run(parse("network"), config(servers, bins), load=0.7)
    assert int(result.counts["completed"]) == 400
    assert int(result.counts["empty_choices"]) == 0


def test_random_weights_leave_nothing_behind(tmp_path: Path) -> None:
    """Whatever the network says, waiting for ever is not possible and no empty bin is chosen."""
    for seed in range(6):
        result = run(bound_to(tmp_path, seed), config(2, 3), load=1.0, requests=200)
        assert int(result.counts["completed"]) == 200 and int(result.counts["empty_choices"]) == 0


def test_decisions_are_those_of_the_environment(tmp_path: Path) -> None:
    """The best action of the ladder by the observation, step by step, is the compiled run, to the bit."""
    arrays = random_arrays(4, seed=1)
    arrays["wait_offset"][0] += 1.0
    checkpoint.save(tmp_path / "random", arrays, EMPTY)
    ready = parse(f"network:path={tmp_path}/random").ready(config(3, 4))
    system = ready.config
    drawn = Workload("azure-conv", requests=300, rate=1.5).draw(5)
    result = simulate(system, drawn, ready.decide, **ready.options)
    env = gym.make(
        "llmsched_env:LLMSched-v0",
        workload=drawn,
        requests=300,
        servers=3,
        bins=[0, *system.queueing.edges],
        discipline=system.queueing.discipline,
        overdue_factor=system.queueing.overdue_factor,
        overdue_batch_factor=system.queueing.overdue_batch_factor,
        profile=system.servers[0].profile.name,
        slo={"e2el": 1000.0 * system.slos[0].e2e_s},
        action="ladder",
    )
    image, _ = env.reset(seed=0)
    over, waits, overdue = False, 0, 0
    while not over:
        scores = plain_scores(image, 4, 128, bool(image[SHARED - 1]), arrays)
        overdue += image[SHARED + 4 * OWN + OVERDUE] == 1.0
        waits += int(np.argmax(scores) == 0)
        image, _, over, _, info = env.step(int(np.argmax(scores)))
    assert info["episode_metrics"]["decisions"] == int(result.counts["decisions"]) > 50
    assert info["time_s"] == float(result.lane["now"])
    assert waits == int(result.counts["waits"]) > 0
    assert overdue > 0  # `any` was the overdue queue


def test_no_torch_is_loaded() -> None:
    code = "import sys; from llmsched.policies import network; network.checkpoint.load_shipped('batch'); "
    code += "print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"


def test_the_record_holds_no_true_output() -> None:
    """What it sees is the image of the record, and the record has no field of the truth."""
    assert "output" not in (RECORD.names or ())


def test_the_small_system_is_solved_to_one_per_cent() -> None:
    """LLMSchedSmall-v0: the learned checkpoint against the computed optimum, on the same arrivals."""
    from llmsched.eval.best_possible.smdp import solve
    from llmsched.eval.experiments.optimum import System, table_policy
    from llmsched.eval.runs.runner import Cell, run_cell

    system = System(0.75, 4, 40_000)
    optimum = solve(system.queue)
    costs = {}
    bounds = (table_policy("optimal", optimum.policy), parse(f"network:path={checkpoint.SMALL}"))
    for bound in bounds:
        rows = [run_cell(Cell("", bound, system.scenario, s), system.scenario.draw(s)).requests for s in range(3)]
        costs[bound.name] = float(np.mean([row["completion"] - row["arrival"] for row in rows]))
    gap = (costs["network"] - costs["optimal"]) / optimum.latency_s
    assert gap < 0.01
