"""The compiled simulator against the slow reference: every stamp of every request, over random cases."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llmsched_env.config import SLO, Controller, Queueing, Server, SimConfig
from llmsched_env.core.constants import ABANDONED, REASONS, REFUSED
from llmsched_env.core.layout import COMPLETED
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.profiles import Profile, load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from tests.oracles import batch as reference
from tests.oracles.continuous.cases import EXPERTS, OVERDUE_FACTORS, profile

STAMPS = ("dispatch", "first_token", "last_token", "completion", "left")


def scripted(record, params, memory, rng):
    """Answers params[2i], params[2i + 1] at decision i, over and over."""
    i = int(memory[0]) % (len(params) // 2)
    memory[0] += 1
    return int(params[2 * i]), int(params[2 * i + 1])


def static(record, params, memory, rng):
    """`any`, params[0]."""
    return record.num_bins, int(params[0])


def dynamic(record, params, memory, rng):
    """`any`, its target."""
    return record.num_bins, record.target[record.num_bins]


def multibin(record, params, memory, rng):
    """Round robin over the bins, the bin's target; memory[0] is one more than the last bin."""
    for step in range(record.num_bins):
        k = (int(memory[0]) + step) % record.num_bins
        if record.queue_length[k] > 0:
            memory[0] = k + 1
            return k, record.target[k]
    memory[0] = 0
    return record.overdue, record.target[record.overdue]


def timeout(record, params, memory, rng):
    """`any` when params[0] wait or the oldest waited params[1]."""
    due = record.waiting >= params[0] or record.now >= record.oldest_arrival + params[1]
    return record.num_bins, int(params[0]) if due else 0


def window(record, params, memory, rng):
    """All that waits, at a tick."""
    return record.num_bins, record.max_batch if record.at_tick else 0


COMPILED = {f.__name__: compile_policy(f) for f in (scripted, static, dynamic, multibin, timeout, window)}


def both(config: SimConfig, requests: Requests, name: str, params=()) -> tuple[RunResult, reference.ReferenceResult]:
    """The same run in both simulators."""
    oracle = {
        "scripted": lambda: reference.scripted(list(zip(map(int, params[::2]), map(int, params[1::2]), strict=True))),
        "static": lambda: reference.static(int(params[0])),
        "dynamic": reference.dynamic,
        "multibin": reference.multibin,
        "timeout": lambda: reference.timeout(int(params[0]), params[1]),
        "window": reference.window,
    }[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        slow = reference.ReferenceSimulator(config, requests, oracle).run()
        fast = simulate(config, requests, COMPILED[name], params=params, memory_size=4, log_batches=True)
    return fast, slow


def assert_equal_runs(fast: RunResult, slow: reference.ReferenceResult, rtol: float) -> None:
    """Everything both simulators report: ``rtol`` 0 asks for equal bits."""
    rows, lane = fast.requests, fast.lane
    for name in STAMPS:
        np.testing.assert_allclose(rows[name], getattr(slow, name), rtol=rtol, atol=0, err_msg=name)
    unfinished = slow.status < reference.COMPLETED
    np.testing.assert_array_equal(
        np.where(rows["status"] < COMPLETED, 0, rows["status"]), np.where(unfinished, 0, slow.status)
    )
    np.testing.assert_array_equal(rows["preemptions"], slow.preemptions)
    assert [REASONS[reason] for reason in rows["reason"]] == slow.reason
    assert lane["counts"]["decisions"] == len(slow.decisions)
    assert lane["counts"]["empty_choices"] == slow.empty_choices
    for name, status in (("completed", reference.COMPLETED), ("refused", REFUSED), ("abandoned", ABANDONED)):
        assert lane["counts"][name] == slow.count(status), name
    np.testing.assert_allclose(lane["counts"]["holding"], slow.in_system_integral, rtol=max(rtol, 1e-9))
    assert len(fast.batches) == len(slow.batches)
    for row, batch in zip(fast.batches, slow.batches, strict=True):
        assert (row["server"], row["size"]) == (batch.server, len(batch.members))
        np.testing.assert_allclose(row["start"], batch.dispatch, rtol=rtol)
        if not np.isnan(batch.end):
            np.testing.assert_allclose(row["end"], batch.end, rtol=rtol)
        np.testing.assert_allclose(row["kv_peak"], batch.peak_tokens, rtol=1e-12)
    controllers, any_ = list(slow.controllers), fast.config.queueing.num_bins
    controllers.append(controllers.pop(any_))  # its row comes behind that of the overdue queue
    for row, state in zip(fast.bins, controllers, strict=True):
        assert row["target"] == state.target
        for ours, theirs in (
            ("low", "low"),
            ("high", "high"),
            ("tau", "tau"),
            ("mean_batch", "bbar"),
            ("mean_l", "mu"),
        ):
            np.testing.assert_allclose(row[ours], np.nan_to_num(getattr(state, theirs)), rtol=1e-8, err_msg=ours)


SPLIT = Profile("s", "split", {"d0": 20.0, "d1": 0.7, "d2": 3e-3, "p0": 15.0, "p1": 0.11, "p2": 2e-6}, 1e9)
AFFINE = Profile("a", "affine", {"d0": 18.0, "d1": 0.9, "d2": 2e-3, "p0": 12.0, "p1": 0.13, "p2": 3e-6}, 1e9)
FLOOR = Profile("f", "floor", {"d0": 20.0, "d1": 9.0, "d2": 3e-3, "p0": 15.0, "p1": 0.11, "p2": 2e-6}, 1e9)
TOKENS = Profile("t", "tokens", {"w0": 9.0, "e0": 4.0, "w1": 0.3, "a_p": 1e-5, "a_d": 2e-3}, 1e9)
OUTPUT = Profile("o", "batch-length", {"a": 10.0, "beta": 2.0, "g": 0.3}, 1e9)
TOTAL = Profile("p", "batch-length", {"a": 59.0, "beta": 0.7, "g": 0.3}, 1e9, length="total")
EXPERTS_PROFILE = profile("experts", EXPERTS)
TABLE = profile("table", {"p2": 2e-6})
LATTICE = Profile("l", "split", {"d0": 1000.0, "d1": 0.0, "d2": 0.0, "p0": 1000.0, "p1": 0.0, "p2": 0.0}, 1e9)


@st.composite
def workloads(draw, lattice: bool = False) -> Requests:
    """A few dozen requests; on the lattice all times are whole seconds, so that events coincide."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    gaps = (
        rng.integers(0, 3, n).astype(float) if lattice else rng.exponential(draw(st.sampled_from([0.02, 0.2, 1.0])), n)
    )
    high = draw(st.sampled_from([5, 30, 80]))
    output = rng.integers(1, 8 if lattice else high, n)
    predicted = np.maximum(1, np.rint(output * np.exp(draw(st.sampled_from([0.0, 0.3, 1.0])) * rng.standard_normal(n))))
    return Requests.checked(
        np.cumsum(gaps), rng.integers(1, 100, n), output, predicted.astype(int), rng.integers(0, 2, n).astype(np.int8)
    )


@st.composite
def configs(draw, lattice: bool = False, preemptions: bool = True) -> SimConfig:
    """Servers alike and unlike, with and without memory to run out of, every discipline and timer."""
    etas = st.sampled_from([float("inf"), 90.0, 150.0, 400.0] if preemptions else [float("inf")])
    forms = [LATTICE] if lattice else [SPLIT, AFFINE, FLOOR, TOKENS, OUTPUT, TOTAL, EXPERTS_PROFILE, TABLE]
    servers = tuple(Server(draw(st.sampled_from(forms)), draw(etas)) for _ in range(draw(st.integers(1, 4))))
    edges = tuple(sorted(draw(st.lists(st.integers(2, 40), max_size=4))))
    overdue = draw(st.sampled_from(OVERDUE_FACTORS))
    queueing = Queueing(
        edges,
        draw(st.sampled_from(["fifo", "fifo", "sjf", "oracle-sjf", "edf", "slack", "priority"])),
        overdue_factor=overdue,
        overdue_batch_factor=None if overdue is None else draw(st.sampled_from([None, 0.5, 0.75, 1.0, 2.0])),
        hold_s=draw(st.sampled_from([float("inf"), 1.0, 3.0])),
        tick_s=draw(st.sampled_from([float("inf"), 2.0, 5.0])),
        max_tokens=draw(st.sampled_from([float("inf"), 60.0])),
        max_wait_s=draw(st.sampled_from([float("inf"), 2.0])),
    )
    return SimConfig(
        servers,
        queueing,
        max_batch=draw(st.integers(1, 24)),
        slos=(SLO(e2e_s=5.0, share=0.5), SLO(ttft_s=2.0, share=0.5, name="fast")),
        controller=Controller(tbt_s=draw(st.sampled_from([0.03, 0.05])), eps_memory=draw(st.sampled_from([0.05, 0.3]))),
        release=draw(st.sampled_from(["batch", "own"])),
        overhead_s=draw(st.sampled_from([0.0, 1.0 if lattice else 0.01])),
        horizon_s=draw(st.sampled_from([float("inf"), float("inf"), 7.0])),
    )


def script(draw, config: SimConfig) -> list[int]:
    last = config.queueing.num_bins + config.queueing.has_overdue
    least = -3 if config.queueing.refusals == "on" else 0
    answers = st.tuples(st.integers(0, last), st.integers(least, config.max_batch + 2))
    return [value for pair in draw(st.lists(answers, min_size=1, max_size=30)) for value in pair]


COMMON = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@settings(COMMON, max_examples=300)
@given(st.data())
def test_any_script_of_decisions(data) -> None:
    """Random answers (waits, empty bins, too large sizes) in random systems: equal to 1e-9."""
    config, requests = data.draw(configs()), data.draw(workloads())
    assert_equal_runs(*both(config, requests, "scripted", script(data.draw, config)), rtol=1e-9)


@settings(COMMON, max_examples=300)
@given(st.data())
def test_simultaneous_events(data) -> None:
    """On a lattice of whole seconds completions, preemptions, arrivals and timers coincide: equal bits."""
    config, requests = data.draw(configs(lattice=True)), data.draw(workloads(lattice=True))
    assert_equal_runs(*both(config, requests, "scripted", script(data.draw, config)), rtol=0)


@pytest.mark.parametrize("name", ["static", "dynamic", "multibin", "timeout", "window"])
@settings(COMMON, max_examples=80)
@given(st.data())
def test_schedulers(name: str, data) -> None:
    """The schedulers, reading record and view, take the same decisions."""
    config, requests = data.draw(configs()), data.draw(workloads())
    assume(name != "window" or config.queueing.tick_s < np.inf)
    params = {"static": [4.0], "timeout": [4.0, 1.0]}.get(name, [0.0])
    assert_equal_runs(*both(config, requests, name, params), rtol=1e-9)


@pytest.mark.parametrize("overdue, at_launch", [(None, None), (0.5, None), (2.0, 0.75)])
@pytest.mark.parametrize("discipline", ["fifo", "slack"])
@pytest.mark.parametrize("name", ["static", "dynamic", "multibin"])
def test_memory_scenario(name: str, discipline: str, overdue: float | None, at_launch: float | None) -> None:
    """A measured profile whose memory binds: thousands of requests, hundreds of preemptions, one of them dropped."""
    rng = np.random.default_rng(5)
    n = 1500
    output = np.maximum(1, rng.lognormal(5.0, 0.9, n)).astype(int)
    requests = Requests.checked(
        np.cumsum(rng.exponential(0.25, n)),
        np.maximum(1, rng.lognormal(6.7, 0.9, n)).astype(int),
        output,
        np.maximum(1, np.rint(output * np.exp(0.3 * rng.standard_normal(n)))).astype(int),
    )
    servers = tuple(Server(load_profile("a100-80gb_bloom-176b_tp8"), eta) for eta in (7000.0, 9000.0))
    queueing = Queueing((90, 150, 260), discipline, overdue_factor=overdue, overdue_batch_factor=at_launch)
    config = SimConfig(servers, queueing, slos=(SLO(e2e_s=60.0),), controller=Controller(tbt_s=0.1))
    fast, slow = both(config, requests, name, [24.0])
    assert fast.counts["preempted"] > 50 or name != "static"
    assert fast.counts["dropped"] + fast.counts["rejected"] > 0
    assert_equal_runs(fast, slow, rtol=1e-9)
