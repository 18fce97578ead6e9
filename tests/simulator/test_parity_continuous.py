"""The compiled engine `continuous` against its token-by-token oracle: every stamp, count, decision, target and gap."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numba.extending import register_jitable
from numpy.typing import NDArray

from llmsched_env import config as config_module
from llmsched_env.config import SLO, Controller, Queueing, Server, SimConfig
from llmsched_env.core import layout
from llmsched_env.core.constants import BLOCK_TOKENS, REASONS
from llmsched_env.core.itl import gap_edges
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from tests.oracles import batch as reference
from tests.oracles.continuous import ContinuousSimulator, Options
from tests.oracles.continuous.cases import INF, Case, Pick, cases, chooser, dice, make_case, make_script, with_losses

pytestmark = pytest.mark.skipif(
    not hasattr(config_module, "Continuous"),
    reason="llmsched_env.config has no Continuous: there is no such engine yet",
)

STAMPS = ("dispatch", "first_token", "last_token", "completion", "left")
NOISE_KEY = 20250305
ROWS = 6000
"""Decisions that a policy can note."""
MAX_CHOICES = 7
WIDTH = 9 + 3 * MAX_CHOICES

# ---- policies: the same Python functions run compiled and, on the oracle's view, as they are.
# params: [answers n, n values, decisions noted so far, a row for each]


@register_jitable
def note(record, params, choice, size):
    """Write down what was asked and answered, and give the answer."""
    start = 1 + int(params[0])
    at = start + 1 + WIDTH * int(params[start])
    params[start] += 1
    if at + WIDTH <= len(params):
        params[at] = record.now
        params[at + 1] = record.server
        params[at + 2] = choice
        params[at + 3] = size
        params[at + 4] = record.running
        params[at + 5] = record.decoding
        params[at + 6] = record.kv_used
        for k in range(record.num_bins + 1 + (record.overdue >= 0)):
            params[at + 7 + k] = record.queue_length[k]
            params[at + 7 + MAX_CHOICES + k] = record.target[k]
            if record.prefix_cache:
                params[at + 7 + 2 * MAX_CHOICES + k] = record.head_cached[k]
        if record.prefix_cache:
            params[at + WIDTH - 2] = record.cache_hit_rate
            params[at + WIDTH - 1] = record.kv_kept
    return choice, size


def scripted(record, params, memory, rng):
    """The given answers, over and over."""
    i = int(memory[0]) % (int(params[0]) // 2)
    memory[0] += 1
    return note(record, params, int(params[1 + 2 * i]), int(params[2 + 2 * i]))


def static(record, params, memory, rng):
    """`any`, a fixed cap."""
    return note(record, params, int(record.num_bins), int(params[1]))


def dynamic(record, params, memory, rng):
    """`any`, its target."""
    return note(record, params, int(record.num_bins), int(record.target[record.num_bins]))


def multibin(record, params, memory, rng):
    """Round robin over the bins, the bin's target; memory[0] is one more than the last bin."""
    chosen = int(record.overdue)
    for step in range(record.num_bins):
        k = (int(memory[0]) + step) % record.num_bins
        if record.queue_length[k] > 0:
            memory[0] = k + 1
            chosen = int(k)
            break
    return note(record, params, chosen, int(record.target[chosen]))


def patient(record, params, memory, rng):
    """Wait until so many wait for this server, or the oldest waited so long; beside others admit at once."""
    waiting = record.queue_length[record.num_bins]
    due = record.running > 0 or waiting >= params[1] or record.now >= record.oldest_arrival + params[2]
    return note(record, params, int(record.num_bins), int(record.max_batch) if due else 0)


def ticking(record, params, memory, rng):
    """All that fits, at a tick."""
    return note(record, params, int(record.num_bins), int(record.max_batch) if record.at_tick else 0)


POLICIES = {f.__name__: f for f in (scripted, static, dynamic, multibin, patient, ticking)}
COMPILED = {name: compile_policy(f) for name, f in POLICIES.items()}


def with_engine(case: Case) -> SimConfig:
    """The configuration of a case, as the simulator takes it."""
    options = case.options
    queueing = case.config.queueing
    if options.srpt:
        queueing = replace(queueing, discipline="oracle-srpt")
    continuous = config_module.Continuous(
        admission=options.admission,
        prefill=options.prefill,
        scheduling=options.scheduling,
        prefix_cache=options.prefix_cache,
        token_budget=options.token_budget,
        routing=options.routing,
        watermark=options.watermark,
        window_s=options.window_s,
        max_chunk=options.max_chunk,
        victim=options.victim,
        returned=options.returned,
    )
    return replace(case.config, queueing=queueing, engine="continuous", continuous=continuous)


# ---- the same run in both


@dataclass
class Both:
    """A run of the compiled engine and of the oracle, and what their policies noted."""

    fast: RunResult
    oracle: ContinuousSimulator
    slow: Any  # ContinuousResult
    fast_notes: NDArray[np.float64]
    slow_notes: NDArray[np.float64]


def parameters(values: Sequence[float]) -> Any:
    """Parameters with room for notes; the simulator hands the policy this very array."""
    params = np.zeros(2 + len(values) + ROWS * WIDTH)
    params[0] = len(values)
    params[1 : 1 + len(values)] = values
    return params


def notes(params: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a policy noted, a row per decision."""
    start = 1 + int(params[0])
    count = int(params[start])
    assert count <= ROWS, f"{count} decisions: make more room for notes"
    return params[start + 1 : start + 1 + count * WIDTH].reshape(count, WIDTH)


def both(case: Case, name: str, values: Sequence[float] = ()) -> Both:
    """The same run in both simulators."""
    config = with_engine(case)
    policy, memory, rng = POLICIES[name], np.zeros(4), np.random.default_rng(0)
    slow_params, fast_params = parameters(values), parameters(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        oracle = ContinuousSimulator(
            config, case.requests, lambda view: policy(view, slow_params, memory, rng), noise_key=NOISE_KEY
        )
        slow = oracle.run()
        options = {"params": fast_params, "memory_size": 4, "details": True, "noise_key": NOISE_KEY}
        fast = simulate(config, case.requests, COMPILED[name], **options)
    return Both(fast, oracle, slow, notes(fast_params), notes(slow_params))


def assert_equal_runs(run: Both, rtol: float) -> None:
    """Everything that both report: ``rtol`` 0 asks for equal bits."""
    assert_equal_decisions(run, rtol)
    fast, slow, rows = run.fast, run.slow, run.fast.requests
    unfinished = slow.status < reference.COMPLETED
    np.testing.assert_array_equal(
        np.where(rows["status"] < layout.COMPLETED, 0, rows["status"]), np.where(unfinished, 0, slow.status)
    )
    for name in STAMPS:
        np.testing.assert_allclose(rows[name], getattr(slow, name), rtol=rtol, atol=0, err_msg=name)
    for name in ("preemptions", "predicted"):
        np.testing.assert_array_equal(rows[name], getattr(slow, name), err_msg=name)
    np.testing.assert_array_equal(rows["generated"][unfinished], slow.generated[unfinished], err_msg="generated")
    assert [REASONS[reason] for reason in rows["reason"]] == list(slow.reason)
    assert_equal_caches(run)
    lane, fates = fast.lane, (("completed", reference.COMPLETED), ("rejected", reference.REJECTED))
    for name, status in (*fates, ("refused", layout.REFUSED), ("abandoned", layout.ABANDONED)):
        assert lane["counts"][name] == slow.count(status), name
    assert lane["counts"]["dropped"] == slow.count(reference.DROPPED)
    assert lane["counts"]["preempted"] == slow.preemptions.sum()
    assert lane["counts"]["decisions"] == len(slow.decisions)
    assert lane["counts"]["waits"] == slow.waits
    assert lane["counts"]["empty_choices"] == slow.empty_choices
    np.testing.assert_allclose(lane["counts"]["holding"], slow.in_system_integral, rtol=max(rtol, 1e-9), atol=1e-12)
    assert_equal_controllers(run)
    if math.isinf(fast.config.horizon_s):
        np.testing.assert_allclose(fast.servers["busy_s"], slow.busy, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(fast.servers["peak_ever"], BLOCK_TOKENS * np.array(slow.peak_blocks))
        assert_equal_gaps(fast, slow.gaps)


def assert_equal_caches(run: Both) -> None:
    """What every request found, and what every server counted; at the end all blocks are free."""
    fast, pools = run.fast, run.slow.pools
    if fast.pools is None or fast.cached_tokens is None:
        assert not pools
        return
    np.testing.assert_array_equal(fast.cached_tokens, run.slow.cached)
    for row, pool in zip(fast.pools, pools, strict=True):
        for name in ("looked_up", "cached", "recomputed", "evicted", "free"):
            assert row[name] == getattr(pool, name), name
        assert row["free"] == row["total"] or run.slow.unfinished
    found = summarize(fast)
    looked_up, cached = sum(pool.looked_up for pool in pools), sum(pool.cached for pool in pools)
    assert found["prefix_cache_hit_rate"] == (cached / looked_up if looked_up else pytest.approx(math.nan, nan_ok=True))
    assert found["cached_tokens"] == cached == run.slow.cached.sum()
    assert found["recomputed_tokens"] == sum(pool.recomputed for pool in pools)
    assert found["evicted_blocks"] == sum(pool.evicted for pool in pools)


def assert_equal_decisions(run: Both, rtol: float) -> None:
    """Who was asked when, what was seen (members, queues, targets) and answered; the first difference is named."""
    fast, slow = run.fast_notes, run.slow_notes
    for i in range(min(len(fast), len(slow))):
        same = abs(fast[i, 0] - slow[i, 0]) <= rtol * abs(slow[i, 0]) and (fast[i, 1:] == slow[i, 1:]).all()
        assert same, f"decision {i} (time, server, bin, size, running, decoding, KV, ...):\n{fast[i]}\n{slow[i]}"
    assert len(fast) == len(slow)


def assert_equal_controllers(run: Both) -> None:
    """Where both kinds of controllers ended; pushed requests have queues of every server, `any` comes last."""
    memories, rows, any_ = list(run.oracle.controllers.memory), run.fast.bins, run.oracle.num_bins
    memories.append(memories.pop(any_))
    if len(rows) > len(memories):
        memories, rows = memories[-1:], rows[-1:]
    for row, memory in zip(rows, memories, strict=True):
        assert row["memory_target"] == memory.target
        np.testing.assert_allclose(row["mean_l"], np.nan_to_num(memory.mu), rtol=1e-9)
    for row, sla in zip(run.fast.servers["set"], run.oracle.controllers.sla, strict=True):
        for ours, theirs in (("low", "low"), ("high", "high"), ("tau", "tau"), ("mean_batch", "bbar")):
            np.testing.assert_allclose(row[ours], np.nan_to_num(getattr(sla, theirs)), rtol=1e-8, err_msg=ours)


def assert_equal_gaps(fast: RunResult, gaps: NDArray[np.float64]) -> None:
    """Number, sum and histogram of the gaps between tokens; a gap at the edge of a bin may fall on either side."""
    lane = fast.lane
    assert lane["counts"]["itl_count"] == len(gaps)
    np.testing.assert_allclose(lane["counts"]["itl_sum"], gaps.sum(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(lane["counts"]["itl_sum2"], (gaps**2).sum(), rtol=1e-8, atol=1e-12)
    below, ordered, edges = np.cumsum(fast.itl_histogram), np.sort(gaps), gap_edges()
    assert (below[:-1] >= np.searchsorted(ordered, edges[:-1] * (1 - 1e-7), side="right")).all()
    assert (below[:-1] <= np.searchsorted(ordered, edges[:-1] * (1 + 1e-7), side="right")).all()
    assert below[-1] == len(gaps)


COMMON = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def scripted_runs(pick: Pick, lattice: bool, cached: bool = False, losses: bool = False) -> Both:
    """A random case under random answers: waits, empty bins, sizes below the running set and above the cap."""
    case = make_case(pick, lattice, drained=False, cached=cached)
    if losses:
        deadlines = not case.options.srpt and case.options.returned == "first"
        queueing = with_losses(pick, case.config.queueing, lattice, deadlines)
        case = replace(case, config=replace(case.config, queueing=queueing))
    answers = [value for answer in make_script(pick, case.config) for value in answer]
    return both(case, "scripted", answers)


@settings(COMMON, max_examples=200)
@given(st.data())
def test_any_script_of_decisions(data) -> None:
    """Equal to 1e-9."""
    assert_equal_runs(scripted_runs(chooser(data.draw), lattice=False), rtol=1e-9)


@settings(COMMON, max_examples=200)
@given(st.data())
def test_simultaneous_events(data) -> None:
    """On a lattice boundaries, completions, preemptions, arrivals and timers coincide: equal bits."""
    assert_equal_runs(scripted_runs(chooser(data.draw), lattice=True), rtol=0)


@pytest.mark.parametrize("lattice", [False, True])
def test_many_cases_by_lot(lattice: bool) -> None:
    """What Hypothesis finds hard to reach: everything at once, with many preemptions."""
    preempted = chosen = dropped = 0
    for seed in range(300):
        run = scripted_runs(dice(seed), lattice)
        try:
            assert_equal_runs(run, rtol=0 if lattice else 1e-9)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {run.fast.config}: {error}") from None
        preempted += run.slow.preemptions.sum()
        chosen += sum(len(decision.preempted) for decision in run.slow.decisions)
        dropped += run.slow.count(reference.DROPPED)
    assert preempted - chosen > 300
    assert chosen > 100
    assert dropped > 30


@settings(COMMON, max_examples=100)
@given(st.data())
def test_prefix_cache(data) -> None:
    """Shared beginnings, tight memory, every switch: equal stamps, hits, evictions and blocks."""
    lattice = data.draw(st.booleans())
    assert_equal_runs(scripted_runs(chooser(data.draw), lattice, cached=True), rtol=0 if lattice else 1e-9)


@pytest.mark.parametrize("lattice", [False, True])
def test_prefix_cache_by_lot(lattice: bool) -> None:
    """The same with many preemptions, hits and evictions."""
    preempted = cached = recomputed = evicted = 0
    for seed in range(300):
        run = scripted_runs(dice(seed), lattice, cached=True)
        try:
            assert_equal_runs(run, rtol=0 if lattice else 1e-9)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {run.fast.config}: {error}") from None
        preempted += run.slow.preemptions.sum()
        cached += run.slow.cached.sum()
        recomputed += sum(pool.recomputed for pool in run.slow.pools)
        evicted += sum(pool.evicted for pool in run.slow.pools)
    assert min(preempted, evicted) > 300
    assert min(cached, recomputed) > 5000


@pytest.mark.parametrize("name", ["static", "dynamic", "multibin", "patient", "ticking"])
@pytest.mark.parametrize("lattice", [False, True])
@settings(COMMON, max_examples=60)
@given(st.data())
def test_schedulers(name: str, lattice: bool, data) -> None:
    """The same functions, on record and view, take the same decisions."""
    case = data.draw(cases(lattice=lattice))
    assume(name != "ticking" or case.config.queueing.tick_s < INF)
    if name == "patient":  # the oldest of what waits for all
        case = replace(case, options=replace(case.options, routing="pull"))
    size = float(data.draw(st.sampled_from([24, 2, 4, 12, 60])))
    values = {"static": [size], "patient": [3.0, 1.0]}.get(name, [])
    assert_equal_runs(both(case, name, values), rtol=0 if lattice else 1e-9)


@pytest.mark.parametrize("overdue", [None, 1.0])
@pytest.mark.parametrize("name", ["static", "dynamic", "multibin"])
@pytest.mark.parametrize(
    "options", [Options(), Options(admission="prompt"), Options("prompt", "first", routing="join-shortest-kv")]
)
def test_memory_scenario(name: str, options: Options, overdue: float | None) -> None:
    """A measured profile whose memory binds: many preemptions where only prompts are reserved."""
    rng = np.random.default_rng(5)
    n = 160
    output = np.maximum(1, rng.lognormal(5.0, 0.9, n)).astype(int)
    requests = Requests.checked(
        np.cumsum(rng.exponential(0.05, n)),
        np.maximum(1, rng.lognormal(5.0, 0.9, n)).astype(int),
        output,
        np.maximum(1, np.rint(output * np.exp(0.3 * rng.standard_normal(n)))).astype(int),
    )
    servers = tuple(Server(load_profile("a100-80gb_bloom-176b_tp8"), eta) for eta in (1500.0, 2500.0))
    queueing = Queueing((40, 60, 100), overdue_factor=overdue)
    config = SimConfig(servers, queueing, 48, (SLO(e2e_s=60.0),), Controller(tbt_s=0.1))
    run = both(Case(config, options, requests), name, [24.0])
    assert_equal_runs(run, rtol=1e-9)
    assert run.slow.preemptions.sum() > 50 or name != "static" or options.admission != "prompt"
