"""What must hold in every run, whatever the policy answers: conservation, memory, order, and equal runs equal bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmsched.policies import names, parse
from llmsched_env.config import Controller, Queueing, Server, SimConfig
from llmsched_env.core import layout
from llmsched_env.core.layout import COMPLETED, DECIDE, DROPPED, NONE, PENDING, REJECTED
from llmsched_env.core.run import run_lane
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import Simulator, finish, simulate
from llmsched_env.workload import Workload, bin_edges
from tests.simulator.test_parity import COMPILED, configs, script, workloads

ROOT = Path(__file__).resolve().parents[2]
COMMON = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
STAMPS = ("dispatch", "first_token", "last_token", "completion")
H100, BLOOM = load_profile("h100-80gb_llama2-70b_tp4"), load_profile("a100-80gb_bloom-176b_tp8")


def run(config: SimConfig, requests: Requests, policy: str, *, noise_key: int = 0) -> RunResult:
    """Simulate under a registered policy, batches logged, without the warning about D."""
    bound = parse(policy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ready = bound.ready(config)
        return simulate(ready.config, requests, ready.decide, log_batches=True, noise_key=noise_key, **ready.options)


def run_script(config: SimConfig, requests: Requests, answers: list[int]) -> RunResult:
    """Simulate under a list of decisions, batches logged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return simulate(config, requests, COMPILED["scripted"], params=answers, memory_size=1, log_batches=True)


def loaded(seed: int = 0, requests: int = 20_000, **options) -> tuple[Requests, tuple[int, ...]]:
    """Requests of the default workload and the edges of four bins."""
    workload = Workload(**{"source": "azure-conv", "requests": requests, "rate": 2.5, **options})
    return workload.draw(seed), bin_edges(workload, 4)


# ---- checks of one run


def check_conservation(result: RunResult) -> None:
    """Every request that arrived has one fate, and the counts of the lane, the rows and the summary agree."""
    lane, status = result.lane, result.requests["status"]
    arrived = status != PENDING
    fates = {name: int((status == value).sum()) for name, value in FATES.items()}
    unfinished = int(arrived.sum()) - sum(fates.values())
    assert arrived.sum() == lane["next_arrival"]
    assert np.array_equal(arrived, result.requests["arrival"] <= lane["now"])
    assert fates == {name: int(lane[name]) for name in FATES}
    assert unfinished == lane["waiting"] + lane["in_service"]
    summary = summarize(result)
    assert summary["submitted"] == arrived.sum()
    assert summary["submitted"] == sum(summary[name] for name in (*FATES, "unfinished"))
    assert summary["unfinished"] == unfinished
    if np.isinf(result.config.horizon_s):
        assert unfinished == 0
        assert arrived.all()


FATES = {"completed": COMPLETED, "rejected": REJECTED, "dropped": DROPPED}


def check_memory(result: RunResult) -> None:
    """No batch ever holds more than its server's KV capacity."""
    eta = np.array([server.eta for server in result.config.servers])
    assert (result.batches["kv_peak"] <= eta[result.batches["server"]]).all()
    assert (result.servers["peak_ever"] <= eta).all()


def check_stamps(result: RunResult) -> None:
    """Arrival <= dispatch <= first token <= last token <= completion, and each stamp belongs to its fate."""
    rows = result.requests
    previous = rows["arrival"]
    for name in STAMPS:
        known = ~np.isnan(rows[name])
        assert (rows[name][known] >= previous[known]).all(), name
        previous = np.where(known, rows[name], previous)
    completed = rows["status"] == COMPLETED
    for name in STAMPS:
        assert not np.isnan(rows[name][completed]).any(), name
    assert np.isnan(rows["completion"][~completed]).all()
    assert np.isnan(rows["dispatch"][rows["status"] == REJECTED]).all()
    if any(server.profile.form == "batch-length" for server in result.config.servers):
        return  # there even the first token is followed by the time of one
    single = completed & (rows["output"] == 1)
    assert np.array_equal(rows["first_token"][single], rows["last_token"][single])


def check_one_batch_at_a_time(result: RunResult) -> None:
    """On each server a batch starts when the one before has ended."""
    for server in range(len(result.config.servers)):
        batches = result.batches[result.batches["server"] == server]
        assert (batches["start"][1:] >= batches["end"][:-1]).all()
        assert (batches["end"] >= batches["start"]).all()


def check_batches(result: RunResult) -> None:
    """Batches are not empty, not above the cap, and what was launched has come back or runs."""
    batches, lane, now = result.batches, result.lane, result.lane["now"]
    assert len(batches) == lane["batches"]
    assert ((batches["size"] >= 1) & (batches["size"] <= result.config.max_batch)).all()
    assert batches["size"].sum() == lane["launched"]
    running = batches["end"] > now
    assert running.sum() == (result.servers["batch"] != NONE).sum()
    if not running.any():
        assert lane["launched"] == lane["completed"] + lane["dropped"] + lane["evicted"]


def check_order(result: RunResult) -> None:
    """FIFO: in every bin the first dispatches follow the numbers, and nobody is passed over."""
    for k in range(result.config.queueing.num_bins):
        rows = result.requests[(result.requests["bin"] == k) & (result.requests["status"] >= 0)]
        dispatch = rows["dispatch"][rows["status"] != REJECTED]
        dispatch = np.where(np.isnan(dispatch), np.inf, dispatch)
        assert (dispatch[1:] >= dispatch[:-1]).all()


def check_late(result: RunResult) -> None:
    """Nobody is late where there is no late bin; at the first dispatch nobody was due who was not late, and without
    triage only who was due is."""
    queueing, rows = result.config.queueing, result.requests[result.requests["status"] != REJECTED]
    started = rows[~np.isnan(rows["dispatch"])]
    if queueing.late_bin is None:
        assert (rows["late"] == 0).all()
        return
    due = np.array([last_start_s(result.config, row, queueing.late_bin) for row in started])
    clear = np.abs(due - started["dispatch"]) > 1e-9
    assert (started["late"] >= (due <= started["dispatch"]))[clear].all()
    if queueing.triage is None:
        assert (started["late"] == (due <= started["dispatch"]))[clear].all()


def last_start_s(config: SimConfig, row: np.void, factor: float) -> float:
    """Deadline minus what has to be left of it, from the service time alone on the first server, token by token."""
    profile, slo = config.servers[0].profile, config.slos[row["slo_class"]]
    prompt, length = int(row["prompt"]), int(row["predicted"])
    if row["evictions"]:
        return np.nan  # its prediction is another one now
    prefill = profile.prefill_ms([prompt]) / 1000
    if profile.form == "batch-length":
        decode = profile.decode_step_ms(1, 0.0) / 1000 * (length if profile.length == "output" else prompt + length)
    else:
        decode = np.sum(profile.decode_step_ms(1, prompt + np.arange(1, length))) / 1000
    alone = np.array([prefill, prefill + decode])
    targets = np.array([slo.ttft_s, slo.e2e_s])
    return float(row["arrival"] + np.min(targets - np.minimum(factor * alone, np.maximum(alone, targets / 2))))


def check_work_conservation(result: RunResult) -> None:
    """Never does a server stand idle while a request waits: for policies that launch at once, without memory limit."""
    rows, batches, servers = result.requests, result.batches, len(result.config.servers)
    times = np.unique(np.concatenate([rows["arrival"], batches["end"], batches["start"]]))
    waiting = count(rows["arrival"], times) - count(rows["dispatch"], times)
    free = servers - count(batches["start"], times) + count(batches["end"], times)
    assert (waiting >= 0).all()
    assert (free >= 0).all()
    assert (np.minimum(waiting, free) == 0).all()


def count(events: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of ``events`` have happened by each of ``times``."""
    return np.searchsorted(np.sort(events), times, side="right")


def check_all(result: RunResult) -> None:
    """Everything that holds whatever the policy."""
    check_conservation(result)
    check_memory(result)
    check_stamps(result)
    check_one_batch_at_a_time(result)
    check_batches(result)
    if result.config.queueing.discipline == "fifo" and result.config.queueing.late_bin is None:
        check_order(result)
    check_late(result)


# ---- the properties


@settings(COMMON, max_examples=250)
@given(st.data())
def test_whatever_is_decided(data: st.DataObject) -> None:
    """Random decisions in random systems: waits, empty bins, evictions, drops, horizons."""
    config, requests = data.draw(configs()), data.draw(workloads())
    check_all(run_script(config, requests, script(data.draw, config)))


@settings(COMMON, max_examples=150)
@given(st.data())
def test_whatever_coincides(data: st.DataObject) -> None:
    """The same where events coincide."""
    config, requests = data.draw(configs(lattice=True)), data.draw(workloads(lattice=True))
    check_all(run_script(config, requests, script(data.draw, config)))


MEMORY = SimConfig((Server(BLOOM, 6000.0), Server(BLOOM, 8000.0)), controller=Controller(tbt_s=0.1))


@pytest.mark.parametrize("policy", names("batch"))
def test_every_policy_on_many_requests(policy: str) -> None:
    """The default scenario, and one whose memory runs out, cut off by a horizon."""
    requests, edges = loaded()
    default = SimConfig((Server(H100),) * 4, Queueing(edges))
    check_all(run(default, requests, policy))
    memory = dataclasses.replace(MEMORY, queueing=Queueing(edges), horizon_s=4000.0)
    result = run(memory, requests, policy)
    check_all(result)
    assert result.lane["rejected"] > 0
    assert result.lane["waiting"] + result.lane["in_service"] > 0


def test_the_memory_scenario_has_every_fate() -> None:
    """What the tests above are about does happen in them."""
    requests, edges = loaded()
    result = run(dataclasses.replace(MEMORY, queueing=Queueing(edges)), requests, "static:batch=64")
    for name, least in (("completed", 10_000), ("evicted", 500), ("rejected", 10), ("dropped", 1)):
        assert result.lane[name] >= least, name
    assert (result.servers["peak_ever"] > [5990.0, 7990.0]).all()


@pytest.mark.parametrize("lattice", [False, True])
@settings(COMMON, max_examples=100)
@given(st.data())
def test_static_is_work_conserving(lattice: bool, data: st.DataObject) -> None:
    """Without a memory limit a free server takes what waits, at once; also where arrivals and ends coincide."""
    config, requests = data.draw(configs(lattice, evictions=False)), data.draw(workloads(lattice))
    config = dataclasses.replace(config, horizon_s=np.inf)
    check_work_conservation(run(config, requests, "static:batch=2"))


@pytest.mark.parametrize("policy", ["static", "dynamic", "multibin", "longest-queue", "sjf", "random"])
def test_work_conservation_on_many_requests(policy: str) -> None:
    """The same at light and heavy load, for every scheduler that never waits."""
    for rate in (0.3, 2.5):
        requests, edges = loaded(rate=rate)
        check_work_conservation(run(SimConfig((Server(H100, np.inf),) * 4, Queueing(edges)), requests, policy))


def test_a_waiting_policy_fails_the_check() -> None:
    """The check of work conservation can fail: `timeout` leaves servers idle."""
    requests, edges = loaded(rate=0.3)
    with pytest.raises(AssertionError):
        check_work_conservation(run(SimConfig((Server(H100, np.inf),) * 4, Queueing(edges)), requests, "timeout"))


# ---- equal runs, bit for bit


def assert_equal_bytes(a: RunResult, b: RunResult, *, but: tuple[str, ...] = (), bins: bool = True) -> None:
    """Requests, batches, servers and totals are the same bytes, apart from the named request fields."""
    for table in ("requests", "batches", "servers", "lane", *(["bins"] if bins else [])):
        ours, theirs = getattr(a, table), getattr(b, table)
        for name in ours.dtype.names:
            if table != "requests" or name not in but:
                assert ours[name].tobytes() == theirs[name].tobytes(), f"{table}.{name}"
    assert a.itl_histogram.tobytes() == b.itl_histogram.tobytes()


def packed(records: NDArray | np.void) -> bytes:
    """The bytes of every field, without the padding between them, which a copy need not keep."""
    return b"".join(np.ascontiguousarray(records[name]).tobytes() for name in records.dtype.names)


Names = tuple[str, ...]


def zeroed(result: RunResult, lane: Names = (), batches: Names = (), servers: Names = ()) -> RunResult:
    """``result`` without the fields named per table: what may differ."""
    copy = dataclasses.replace(
        result, lane=result.lane.copy(), batches=result.batches.copy(), servers=result.servers.copy()
    )
    for array, fields in ((copy.lane, lane), (copy.batches, batches), (copy.servers, servers)):
        for name in fields:
            array[name] = 0
    return copy


SETTINGS = [
    SimConfig((Server(H100),) * 4),
    dataclasses.replace(MEMORY, horizon_s=20_000.0),
    SimConfig((Server(H100),) * 2 + (Server(BLOOM),), release="own", overhead_s=0.03),
]
SETTING_NAMES = ["default", "memory", "mixed"]


@pytest.mark.parametrize("config", SETTINGS, ids=SETTING_NAMES)
@pytest.mark.parametrize("select", ["roundrobin", "longest", "oldest"])
def test_one_bin_of_multibin_is_dynamic(config: SimConfig, select: str) -> None:
    """K = 1: the bin's controller and that of `any` see the same batches, so both schedulers are one."""
    requests, _ = loaded(5)
    one = run(config, requests, f"multibin:select={select}")
    single = run(config, requests, "dynamic")
    plain = {"batches": ("choice",), "servers": ("choice",)}
    assert_equal_bytes(zeroed(one, **plain), zeroed(single, **plain), bins=False)
    for name in ("batches", "target", "low", "high", "tau", "mean_batch", "memory_target", "mean_l", "mean_l2"):
        assert one.bins[0][name] == one.bins[1][name] == single.bins[1][name], name


@pytest.mark.parametrize("late_bin", [None, 2.0])
@pytest.mark.parametrize("config", SETTINGS, ids=SETTING_NAMES)
@pytest.mark.parametrize("policy", ["static:batch=32", "dynamic", "sjf", "timeout", "window"])
def test_many_bins_read_through_any_are_one_queue(config: SimConfig, policy: str, late_bin: float | None) -> None:
    """The merge of K bins by the order of one queue is that queue, also beside a late bin."""
    requests, edges = loaded(6)
    config = dataclasses.replace(config, queueing=Queueing(late_bin=late_bin))
    one = run(config, requests, policy)
    many = run(dataclasses.replace(config, queueing=Queueing(edges, late_bin=late_bin)), requests, policy)
    plain = {"lane": ("num_bins",), "batches": ("choice",), "servers": ("choice",)}
    assert_equal_bytes(zeroed(one, **plain), zeroed(many, **plain), but=("bin", "next", "prev"), bins=False)
    assert packed(one.bins[-1]) == packed(many.bins[-1])
    assert len(np.unique(many.requests["bin"])) == 4


@pytest.mark.parametrize("policy", ["static:batch=32", "dynamic", "multibin", "sjf"])
@pytest.mark.parametrize("config", SETTINGS[:2], ids=SETTING_NAMES[:2])
def test_own_release_moves_the_completion_stamp_only(config: SimConfig, policy: str) -> None:
    """Members leave with their own last token on paper; the server is busy to the end all the same."""
    requests, edges = loaded(7)
    config = dataclasses.replace(config, queueing=Queueing(edges))
    batch = run(config, requests, policy)
    own = run(dataclasses.replace(config, release="own"), requests, policy)
    plain = {"lane": ("release_own",), "servers": ("worst_e2e", "last_e2e")}  # E2E is made of the completion
    assert_equal_bytes(zeroed(batch, **plain), zeroed(own, **plain), but=("completion",))
    done = own.requests["status"] == COMPLETED
    assert np.array_equal(own.requests["completion"][done], own.requests["last_token"][done])
    assert (own.requests["completion"][done] < batch.requests["completion"][done]).any()
    assert (own.requests["completion"][done] <= batch.requests["completion"][done]).all()


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("policy", ["multibin", "random", "least-slack", "priority"])
def test_a_run_in_pieces_is_one_run(policy: str, limit: int) -> None:
    """The kernel may stop after any number of decisions: what it knows is in the arrays."""
    requests, edges = loaded(8, 3000)
    ready = parse(policy).ready(dataclasses.replace(MEMORY, queueing=Queueing(edges)))
    config = ready.config
    whole = simulate(config, requests, ready.decide, log_batches=True, noise_key=3, **ready.options)
    simulator = Simulator(config, len(requests), log=2 * len(requests), gaps=True)
    simulator.load(0, requests, noise_key=3)
    memory, rng = np.zeros(max(1, ready.memory_size)), np.random.default_rng(0)
    calls, status = 0, DECIDE
    while status == DECIDE:
        status = run_lane(
            simulator.arrays, simulator.record, ready.decide, ready.params, memory, rng, ready.details, limit
        )
        calls += 1
    assert calls == int(whole.lane["decisions"]) // limit + 1
    lane = simulator.lane[0]
    finish(simulator.requests[0], simulator.servers[0], float(lane["now"]))
    log = simulator.log[0][: int(lane["logged"])]
    pieces = dataclasses.replace(
        whole,
        requests=simulator.requests[0],
        batches=log,
        bins=simulator.bins[0],
        servers=simulator.servers[0],
        lane=lane,
        itl_histogram=simulator.gaps[0],
    )
    assert_equal_bytes(whole, pieces)


def test_lanes_do_not_touch_each_other() -> None:
    """A simulator loaded again starts anew, and what a lane does not own stays as it was."""
    requests, edges = loaded(9, 2000)
    config = dataclasses.replace(MEMORY, queueing=Queueing(edges))
    ready = parse("multibin").ready(config)
    alone = simulate(config, requests, ready.decide, log_batches=True, **ready.options)
    simulator = Simulator(config, len(requests), lanes=2, log=2 * len(requests), gaps=True)
    for lane in (0, 1):
        simulator.load(lane, requests)
    untouched = [array[1].tobytes() for array in simulator.arrays]
    for _ in range(2):
        simulator.load(0, requests)
        simulator.run(ready.decide, ready.params, np.zeros(1), np.random.default_rng(0))
        finish(simulator.requests[0], simulator.servers[0], float(simulator.lane[0]["now"]))
        assert packed(simulator.requests[0]) == packed(alone.requests)
        assert packed(simulator.lane[0]) == packed(alone.lane)
        assert packed(simulator.bins[0]) == packed(alone.bins)
    assert [array[1].tobytes() for array in simulator.arrays] == untouched


# ---- other processes, and the kernel without its compiler

DIGEST = """
import hashlib, json, sys, warnings
from tests.simulator.test_invariants import digest
warnings.simplefilter("ignore")
print(json.dumps([digest(policy, int(sys.argv[1])) for policy in sys.argv[2:]]))
"""
POLICIES = ("static:batch=32", "dynamic", "multibin", "random", "sjf", "timeout", "least-slack", "multibin-fixed")


def digest(policy: str, requests: int) -> str:
    """SHA-256 of everything a run leaves behind: a memory-bound one with noise, timers and own streams."""
    drawn, edges = loaded(11, requests)
    noisy = dataclasses.replace(BLOOM, noise_sigma=0.1)
    servers = (Server(noisy, 6000.0), Server(noisy, 8000.0), Server(H100))
    config = SimConfig(servers, Queueing(edges), controller=Controller(tbt_s=0.1), horizon_s=50_000.0)
    total = hashlib.sha256()
    for queueing in (Queueing(edges), Queueing(edges, late_bin=1.0, triage=0.8)):
        result = run(dataclasses.replace(config, queueing=queueing), drawn, policy, noise_key=77)
        add(total, result)
    return total.hexdigest()


def add(total: Any, result: RunResult) -> None:
    """Put everything that a run leaves behind into a digest."""
    for records in (result.requests, result.batches, result.bins, result.servers, result.lane):
        total.update(packed(records))
    total.update(result.itl_histogram.tobytes())


def other_process(requests: int, **environment: str) -> str:
    """The digests of POLICIES, computed by a fresh interpreter."""
    command = [sys.executable, "-c", DIGEST, str(requests), *POLICIES]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def ours(requests: int) -> str:
    """The digests of POLICIES, computed here, as ``other_process`` prints them."""
    return str([digest(policy, requests) for policy in POLICIES]).replace("'", '"') + "\n"


def test_equal_seeds_give_equal_bytes_in_every_process() -> None:
    """Nothing depends on the process: hash seeds, addresses, the order of imports."""
    expected = ours(5000)
    for seed in ("0", "1"):
        assert other_process(5000, PYTHONHASHSEED=seed) == expected


def test_the_kernel_without_its_compiler_is_the_same_kernel() -> None:
    """NUMBA_DISABLE_JIT=1 runs the same source in Python (for debuggers and coverage): equal bytes."""
    assert other_process(150, NUMBA_DISABLE_JIT="1") == ours(150)


@pytest.mark.parametrize("name", ["REQUEST", "BIN", "SERVER", "LANE", "SLO_ROW", "SLOT", "EXPIRY", "RECORD"])
def test_no_field_is_hidden_by_an_attribute_of_numpy(name: str) -> None:
    """Without the compiler ``row.size`` would be NumPy's, not the field: none that is read so may be called so."""
    hidden = [field for field in getattr(layout, name).names if hasattr(np.record, field)]
    assert not hidden, f"layout.{name}: rename {', '.join(hidden)}"


def test_other_seeds_give_other_bytes() -> None:
    """The digest sees the requests: fewer of them, another policy, another digest."""
    assert len({digest(policy, size) for policy in ("static", "dynamic") for size in (100, 101)}) == 4
