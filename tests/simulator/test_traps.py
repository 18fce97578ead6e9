"""Somebody's real faults, one test each, on the compiled simulator: what other schedulers and simulators got wrong.

Proved elsewhere and not repeated here (file::test, without the leading test_):
- K = 1 is the single queue bit for bit: invariants::one_bin_of_multibin_is_dynamic.
- Bin edges never look at scored arrivals: predictors_bins::edges_of_a_generator_do_not_come_from_the_scored_arrivals
  and ::edges_of_a_trace_come_from_its_first_tenth_only.
- No batch of any scheduler exceeds the memory: invariants::every_policy_on_many_requests.
- Inside its band the SLA controller holds a small batch: reference::inside_the_band_a_small_batch_reproduces_itself.
- Another seed is another world: workload::same_seed_same_bytes_other_seed_or_split_other_bytes.
- Shares and rates have the stated denominators: metrics::shares_and_rates_have_the_stated_denominators.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched.policies import parse
from llmsched_env.config import SLO, Controller, Queueing, Server, SimConfig
from llmsched_env.core.layout import COMPLETED, DROPPED, REJECTED
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.profiles import Profile, load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import meets_slo, summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import Simulator, finish, simulate
from llmsched_env.workload import Trace, Workload, bin_edges

INF = math.inf
H100, IDEAL = load_profile("h100-80gb_llama2-70b_tp4"), load_profile("ideal")


def run(config: SimConfig, requests: Requests, policy: str) -> RunResult:
    """Simulate under a registered policy, batches logged."""
    bound = parse(policy)
    ready = bound.ready(config)
    return simulate(ready.config, requests, ready.decide, log_batches=True, **ready.options)


# ---- the controllers


def test_the_controller_recovers_after_a_quiet_spell() -> None:
    """Ten quiet minutes, then a burst: a small batch must not stay small (the peer's stayed at one: p99 3,329 s)."""
    rng = np.random.default_rng(0)
    quiet, burst = 600.0 * np.sort(rng.random(120)), 600.0 + 600.0 * np.sort(rng.random(3600))
    arrival = np.concatenate([quiet, burst])
    n = len(arrival)
    requests = Requests.checked(arrival, np.full(n, 200), rng.integers(50, 150, n))
    result = run(SimConfig((Server(H100),), controller=Controller(tbt_s=0.05)), requests, "dynamic")
    before = result.batches[result.batches["start"] < 600.0]
    after = result.batches[(result.batches["start"] > 700.0) & (result.batches["start"] < 1200.0)]
    assert before["size"].mean() < 2
    assert after["size"].mean() > 30
    assert summarize(result)["p99_e2el_ms"] < 30_000.0


def test_the_controller_recovers_from_batches_that_were_too_slow() -> None:
    """Long prompts push the target down, short ones let it up again: outside the band there is no ratchet."""
    rng = np.random.default_rng(1)
    heavy, light = 600, 20_000
    n = heavy + light
    prompt = np.concatenate([np.full(heavy, 6000), np.full(light, 20)])
    requests = Requests.checked(np.linspace(0.0, 1.0, n), prompt, rng.integers(50, 100, n))
    config = SimConfig((Server(H100, INF),), controller=Controller(tbt_s=0.05))
    batches = run(config, requests, "dynamic").batches
    served = np.cumsum(batches["size"])
    slow, late = batches["size"][(served > 300) & (served < heavy)], batches["size"][served > n - 2000]
    assert slow.max() < 40
    assert np.median(late) > 2 * slow.max()


def test_a_target_below_what_one_request_needs_is_replaced_and_said() -> None:
    """Inside a band around tau(1) any small batch reproduces itself: such a D is refused, with both numbers."""
    one = (H100.decode_step_ms(1, 1)) / 1000.0
    config = SimConfig((Server(H100),), controller=Controller(tbt_s=one))
    requests = Workload("azure-conv", requests=2000, rate=2.0).draw(0)
    with pytest.warns(UserWarning, match="target time between tokens .* is refused.* is used"):
        result = run(config, requests, "dynamic")
    assert result.lane["tbt"] == pytest.approx(one + 0.002, rel=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(dataclasses.replace(config, controller=Controller(tbt_s=one + 0.002)), requests, "dynamic")


@pytest.mark.parametrize(
    ("eta", "tbt_s"), [(8000.0, 0.2), (INF, 0.034)], ids=["the memory target", "the latency target"]
)
def test_decodes_of_other_servers_do_not_raise_the_target(eta: float, tbt_s: float) -> None:
    """The peer's floor was what the whole cluster decodes: with 16 servers it switched both papers' rules off."""
    workload = Workload("azure-conv", requests=20_000, rate=100.0)
    sizes = {}
    for servers in (1, 16):
        config = SimConfig((Server(H100, eta),) * servers, controller=Controller(tbt_s=tbt_s))
        result = run(config, workload.draw(2), "dynamic")
        steady = result.batches[len(result.batches) // 5 : -len(result.batches) // 5]
        sizes[servers] = steady["size"].mean()
    assert sizes[1] < 20
    assert sizes[16] < 1.3 * sizes[1]


def test_the_peer_controller_is_another_one() -> None:
    """An option that changes nothing is a lie."""
    requests = Workload("azure-conv", requests=5000, rate=20.0).draw(2)
    runs = [
        run(SimConfig((Server(H100, 8000.0),) * 4, controller=Controller(tbt_s=0.034, kind=kind)), requests, "dynamic")
        for kind in ("paper", "peer")
    ]
    assert runs[0].batches.tobytes() != runs[1].batches.tobytes()


# ---- admission


@pytest.mark.parametrize("policy", ["static", "dynamic", "multibin", "multibin-fixed:batch=4", "sjf"])
def test_an_oversized_request_at_the_head_loses_nobody(policy: str) -> None:
    """In the peer one request above the memory at the head of the queue lost 1,900 of 2,000 others."""
    rng = np.random.default_rng(3)
    n = 2000
    prompt, output = rng.integers(10, 300, n), rng.integers(10, 200, n)
    prompt[[0, 500]] = 5000  # larger than any server: rejected
    prompt[[1, 501]], output[[1, 501]] = 3990, 500  # enters alone, outgrows the memory alone: dropped
    predicted = output.copy()
    predicted[[2, 502]] = 10_000  # only believed to be too large: served
    requests = Requests.checked(np.linspace(0.0, 10.0, n), prompt, output, predicted)
    config = SimConfig((Server(H100, 3000.0), Server(H100, 4000.0)), Queueing((50, 100, 150)))
    result = run(config, requests, policy)
    status = result.requests["status"]
    assert status[[0, 500]].tolist() == [REJECTED] * 2
    assert status[[1, 501]].tolist() == [DROPPED] * 2
    assert (np.delete(status, [0, 1, 500, 501]) == COMPLETED).all()
    assert summarize(result)["submitted"] == n


def test_admission_goes_by_the_prediction_not_by_the_truth() -> None:
    """Who is let in may depend on what was predicted, and on nothing else: the peer packed by true lengths."""
    n = 64
    prompt, ones = np.full(n, 100), np.ones(n, int)

    def first_batch(output: NDArray[np.int64], predicted: NDArray[np.int64]) -> int:
        requests = Requests.checked(np.zeros(n), prompt, output, predicted)
        return int(run(SimConfig((Server(H100, 3000.0),)), requests, "static:batch=64").batches["size"][0])

    assert first_batch(50 * ones, 200 * ones) == first_batch(400 * ones, 200 * ones) == 10
    assert first_batch(50 * ones, 50 * ones) == first_batch(400 * ones, 50 * ones) == 20


def test_the_record_does_not_know_the_truth() -> None:
    """Whatever the true outputs are, the first decision of every scheduler sees the same record."""
    n = 64
    seen = []
    for output in (5, 500):
        requests = Requests.checked(np.zeros(n), np.full(n, 100), np.full(n, output), np.arange(1, n + 1))
        config = SimConfig((Server(H100, 9000.0),) * 2, Queueing((20, 40)))
        simulator = Simulator(config, n)
        simulator.load(0, requests)
        with pytest.raises(ValueError, match="bin 99"):  # stopped at its second decision
            simulator.run(STOP, np.zeros(1), np.zeros(1), np.random.default_rng(0), details=True)
        seen.append(simulator.record[0].copy())
    for name in seen[0].dtype.names:
        if name not in ("last_size", "server_batches"):  # where the kernel leaves the refused answer
            assert seen[0][name].tobytes() == seen[1][name].tobytes(), name


def stop(record, params, memory, rng):  # type: ignore[no-untyped-def]
    """One batch of ten, then an answer that is refused."""
    memory[0] += 1
    return (record.num_bins, 10) if memory[0] == 1 else (99, 1)


STOP = compile_policy(stop)


def test_a_prediction_below_the_first_edge_is_of_the_first_bin() -> None:
    """It fell into the last one, among the longest."""
    predicted = [1, 63, 64, 65, 255, 256, 10**6]
    n = len(predicted)
    requests = Requests.checked(np.arange(n, dtype=float), np.ones(n, int), np.ones(n, int), predicted)
    result = run(SimConfig((Server(IDEAL),), Queueing((64, 256))), requests, "multibin")
    assert result.requests["bin"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert result.batches["choice"].tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_a_fixed_batch_is_cut_to_the_memory() -> None:
    """Without a memory check a batch of 128 "wins": 51 % of the peer's batches held more than the GPU."""
    workload = Workload("azure-conv", requests=5000, rate=5.0)
    result = run(SimConfig((Server(H100, 20_000.0),)), workload.draw(4), "static:batch=128")
    assert result.batches["kv_peak"].max() <= 20_000.0
    assert result.batches["size"].max() < 128
    assert result.lane["completed"] == 5000


# ---- what is counted


def test_an_slo_below_what_one_request_needs_is_finite_and_counted() -> None:
    """Nobody can meet it: attainment is 0, not undefined, and every arrival is a miss."""
    requests = Workload("azure-conv", requests=2000, rate=2.0).draw(5)
    config = SimConfig((Server(H100),) * 4, slos=(SLO(ttft_s=1e-6, tpot_s=1e-6, e2e_s=1e-6),))
    with pytest.warns(UserWarning, match="is refused"):  # the TPOT target is D too
        for policy in ("static", "dynamic", "aimd", "edf", "least-slack"):
            summary = summarize(run(config, requests, policy))
            assert summary["slo_attainment"] == 0.0
            assert summary["request_goodput"] == 0.0
            assert summary["completed"] == 2000
            assert np.isfinite(summary["mean_e2el_ms"])
            assert summary["mean_batch_size"] > 4.0 or policy == "aimd"  # which backs off to 1, as published


def test_ttft_holds_the_queueing_and_is_no_constant() -> None:
    """The peers report it as a constant (60 ms) or as the whole latency."""
    requests = Workload("azure-conv", requests=5000, rate=2.5).draw(6)
    result = run(SimConfig((Server(H100),) * 4), requests, "static")
    rows, summary = result.requests, summarize(result)
    ttft, wait = rows["first_token"] - rows["arrival"], rows["dispatch"] - rows["arrival"]
    assert wait.mean() > 10.0  # overloaded
    assert (ttft > wait).all()
    assert summary["mean_ttft_ms"] == pytest.approx(1000.0 * ttft.mean())
    assert summary["mean_ttft_ms"] > summary["mean_queue_ms"] > 10_000.0
    prefill = ttft - wait
    assert prefill.max() > 2.0 * prefill.min()
    longer = rows["output"] > 1
    assert (rows["completion"] - rows["arrival"] > ttft)[longer].all()


def test_failed_and_unfinished_requests_stay_in_the_statistics() -> None:
    """Attainment is over all arrivals: what was rejected, dropped or cut off is a miss."""
    requests = Workload("azure-conv", requests=5000, rate=2.5).draw(7)
    target = (SLO(e2e_s=600.0),)
    config = SimConfig((Server(H100, 3000.0),) * 4, slos=target, horizon_s=1500.0)
    result = run(config, requests, "static:batch=32")
    summary, status = summarize(result), result.requests["status"]
    arrived = requests.arrival_s <= 1500.0
    assert summary["rejected"] > 10
    assert summary["unfinished"] > 100
    assert summary["submitted"] == arrived.sum()
    met = meets_slo(result)
    assert not met[status != COMPLETED].any()
    assert summary["slo_attainment"] == met.sum() / arrived.sum()
    assert summary["slo_attainment"] < met.sum() / summary["completed"]


# ---- load and arrivals


def test_the_load_does_not_depend_on_the_number_of_requests() -> None:
    """The peer took the first N rows of its trace: 1,000 requests came 13 times slower than a million."""
    ramp = np.cumsum(1.0 / np.linspace(0.2, 5.0, 3000))  # a trace that starts slowly
    trace = Trace(ramp - ramp[0], np.full(3000, 100, np.int32), np.full(3000, 100, np.int32))
    for source in ("azure-conv", "burstgpt", trace):
        for rate in (None, 2.5):
            rates = {Workload(source, requests=n, rate=rate).mean_rate for n in (50, 1000, 100_000)}
            assert len(rates) == 1
    short = [Workload("azure-conv", requests=300, rate=2.5).draw(seed).arrival_s[-1] for seed in range(400)]
    mean, error = np.mean(short), np.std(short) / math.sqrt(len(short))
    assert error < 0.02 * 120.0
    assert abs(mean - 300 / 2.5) < 4.0 * error  # the rate's slow waves start in their long-run law, not at rest


def test_a_short_draw_is_the_start_of_a_long_one() -> None:
    """More requests are more of the same."""
    short, long = (Workload("azure-conv", requests=n, rate=2.5).draw(8) for n in (500, 50_000))
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "predicted_tokens"):
        assert np.array_equal(getattr(short, name), getattr(long, name)[:500]), name


def test_gaps_of_poisson_arrivals_are_not_capped() -> None:
    """Capped at three means the true rate was 1.052 times the asked one."""
    gaps = np.diff(Workload("poisson", requests=1_000_000, rate=4.0).draw(9).arrival_s) * 4.0
    assert gaps.mean() == pytest.approx(1.0, abs=4.0 / 1000.0)  # four standard errors; the cap would give 0.950
    for multiple in (3.0, 6.0, 9.0):
        share = math.exp(-multiple)
        assert (gaps > multiple).mean() == pytest.approx(share, abs=4.0 * math.sqrt(share / 1e6))


def test_the_wait_of_the_last_is_not_that_of_the_first() -> None:
    """Overload has no steady state: waits grow with N, and are not to be sold as a mean of the system."""
    requests = Workload("azure-conv", requests=20_000, rate=4.0).draw(10)
    rows = run(SimConfig((Server(H100),) * 4), requests, "static").requests
    wait = rows["dispatch"] - rows["arrival"]
    assert wait[-2000:].mean() > 5.0 * wait[:2000].mean() > 0.0


# ---- a window never overwrites a running batch


def test_a_window_does_not_overwrite_a_running_batch() -> None:
    """In a public engine it did, and its requests were gone: 4 of 15 served, in the mean."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        arrival = np.cumsum(rng.integers(1, 6, 15)).astype(float)
        output = rng.integers(1000, 20_000, 15)  # 1 to 20 s; the window is 5 s
        requests = Requests.checked(arrival, np.ones(15, int), output)
        result = run(SimConfig((Server(IDEAL),)), requests, "window:every=5000")
        assert (result.requests["status"] == COMPLETED).all()
        assert (result.batches["start"][1:] >= result.batches["end"][:-1]).all()
        waits = result.requests["dispatch"] % 5.0
        assert (waits[result.requests["dispatch"] < arrival[-1]] == 0.0).all()


def test_a_timer_is_due_at_the_sum_not_at_the_age() -> None:
    """0.7 s + 0.1 s is 0.7999999999999999 s: the age is then below 0.1 s, and who compares it waits for ever."""
    assert (0.7 + 0.1) - 0.7 < 0.1
    requests = Requests.checked([0.7, 9.0], [1, 1], [1, 1])
    result = run(SimConfig((Server(IDEAL),)), requests, "timeout:batch=4:wait=100")
    assert result.requests["dispatch"].tolist() == [0.7 + 0.1, 9.0 + 0.1]
    assert result.lane["decisions"] == 4


# ---- simultaneous events: completion and eviction, arrival, timer, decision; on the compiled kernel, by hand

UNIT = Profile("unit", "split", {"d0": 1000.0, "d1": 0.0, "d2": 0.0, "p0": 1000.0, "p1": 0.0, "p2": 0.0}, INF)
"""Prefill 1 s, every token after it 1 s: a request of output m served from t ends at t + m."""

COLUMNS = 8


def spy(record, params, memory, rng):  # type: ignore[no-untyped-def]
    """Answers params[2i], params[2i + 1] at decision i (the last pair for ever) and notes what it was shown."""
    i = int(memory[0])
    memory[0] += 1
    row = 1 + 8 * i
    if row + 8 <= len(memory):
        memory[row], memory[row + 1] = record.now, record.server
        memory[row + 2], memory[row + 3] = record.waiting, record.head_number[record.num_bins]
        memory[row + 4], memory[row + 5] = record.free_servers, record.at_tick
        memory[row + 6], memory[row + 7] = record.server_batches, record.completed
    pair = 2 * min(i, len(params) // 2 - 1)
    return int(params[pair]), int(params[pair + 1])


SPY = compile_policy(spy)


@dataclass(frozen=True)
class Seen:
    """What a policy was shown at one decision."""

    now: float
    server: int
    waiting: int
    head: int
    free: int
    tick: int
    server_batches: int
    completed: int


def watch(
    arrival: Sequence[float],
    output: Sequence[int],
    *,
    answers: Sequence[tuple[int, int]] = ((1, 1),),
    predicted: Sequence[int] | None = None,
    prompt: int = 1,
    etas: Sequence[float] = (INF,),
    queueing: Queueing | None = None,
) -> tuple[list[Seen], NDArray]:
    """Every decision of a run on the profile UNIT, and the request records; bin 1 is `any`, size 0 waits."""
    requests = Requests.checked(arrival, [prompt] * len(arrival), output, predicted)
    config = SimConfig(
        tuple(Server(UNIT, eta) for eta in etas), queueing or Queueing(), controller=Controller(tbt_s=9.0)
    )
    simulator = Simulator(config, len(requests))
    simulator.load(0, requests)
    memory = np.zeros(1 + COLUMNS * 64)
    params = np.array(answers, dtype=np.float64).ravel()
    simulator.run(SPY, params, memory, np.random.default_rng(0))
    finish(simulator.requests[0], simulator.servers[0], float(simulator.lane[0]["now"]))
    rows = memory[1 : 1 + COLUMNS * int(memory[0])].reshape(-1, COLUMNS)
    return [Seen(float(row[0]), *(int(value) for value in row[1:])) for row in rows], simulator.requests[0]


def test_completion_and_completion() -> None:
    """Both servers end at 3: both completions happen before either is asked, and server 0 is asked first."""
    seen, rows = watch([0, 0, 1, 2], [3, 3, 1, 1], etas=(INF, INF))
    assert [(s.now, s.server, s.head, s.free, s.completed) for s in seen[2:]] == [(3, 0, 2, 2, 2), (3, 1, 3, 1, 2)]
    assert rows["completion"].tolist() == [3, 3, 4, 4]


def test_completion_and_completion_feed_the_controllers_in_server_order() -> None:
    """The averages of `any` depend on the order: server 1's batch is older, server 0's counts first."""
    requests = Requests.checked([0, 0, 1], [2, 6, 4], [1, 4, 3])
    config = SimConfig((Server(UNIT), Server(UNIT)), controller=Controller(tbt_s=9.0))
    result = simulate(config, requests, SPY, params=[1, 1], memory_size=1)
    assert result.requests["completion"].tolist() == [1, 4, 4]
    # lengths 3; then 7 (server 0), then 10 (server 1): 0.8 * (0.8 * 3 + 0.2 * 7) + 0.2 * 10
    assert result.bins["mean_l"][-1] == pytest.approx(0.8 * (0.8 * 3 + 0.2 * 7) + 0.2 * 10, rel=1e-15)


def test_completion_and_arrival() -> None:
    """The server is free when the request that arrives at that instant asks for one: one question, no waiting."""
    seen, rows = watch([0, 3], [3, 1])
    assert [(s.now, s.waiting, s.head, s.server_batches, s.completed) for s in seen] == [
        (0, 1, 0, 0, 0),
        (3, 1, 1, 1, 1),
    ]
    assert rows["dispatch"].tolist() == [0, 3]


def test_arrival_and_arrival() -> None:
    """Requests of one instant have all arrived before anybody is asked, and keep their order."""
    seen, rows = watch([0, 0, 0], [1, 1, 1])
    assert [(s.now, s.waiting, s.head) for s in seen] == [(0, 3, 0), (1, 2, 1), (2, 1, 2)]
    assert rows["dispatch"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("timer", [Queueing(hold_s=1.5), Queueing(tick_s=2.0)], ids=["hold", "tick"])
def test_arrival_and_timer(timer: Queueing) -> None:
    """Both at 2: the timer's question already shows the request that has just arrived."""
    seen, rows = watch([0.5, 2], [1, 1], answers=[(1, 0), (1, 9)], queueing=timer)
    assert [(s.now, s.waiting) for s in seen] == [(0.5, 1), (2, 2)]
    assert seen[1].tick == (timer.tick_s == 2.0)
    assert rows["dispatch"].tolist() == [2, 2]


@pytest.mark.parametrize("timer", [Queueing(hold_s=2.0), Queueing(tick_s=3.0)], ids=["hold", "tick"])
def test_completion_and_timer(timer: Queueing) -> None:
    """At 3 server 0 ends and the timer of the request that waits since 1 is due: one question, both free."""
    seen, _ = watch([0, 1], [3, 1], answers=[(1, 1), (1, 0), (1, 1)], etas=(INF, INF), queueing=timer)
    assert [(s.now, s.server, s.free, s.completed) for s in seen] == [(0, 0, 2, 0), (1, 1, 1, 0), (3, 0, 2, 1)]
    assert seen[2].tick == (timer.tick_s == 3.0)


def test_timer_and_timer() -> None:
    """The hold timer and a tick at 2: one question."""
    queueing = Queueing(hold_s=1.5, tick_s=2.0)
    seen, _ = watch([0.5, 9], [1, 1], answers=[(1, 0), (1, 1)], queueing=queueing)
    assert [(s.now, s.tick) for s in seen] == [(0.5, 0), (2, 1), (9, 0)]


PAIR = {"prompt": 5, "predicted": [2, 2], "etas": (20.0, 20.0)}
"""Two requests of 8 tokens on a server of 20: 10 + 2 * 5 fits, so the later one leaves at 5 s."""


def test_eviction_and_arrival() -> None:
    """At 5 request 1 comes back and request 2 arrives: the other server sees both, the returned one first."""
    pair = {**PAIR, "predicted": [2, 2, 1], "etas": (20.0, 30.0)}
    seen, rows = watch([0, 0, 5], [8, 8, 1], answers=[(1, 2)], **pair)
    assert [(s.now, s.server, s.waiting, s.head) for s in seen] == [(0, 0, 2, 0), (5, 1, 2, 1)]
    assert rows["evictions"].tolist() == [0, 1, 0]
    assert rows["batch"][1] == rows["batch"][2]


@pytest.mark.parametrize("timer", [Queueing(hold_s=4.0), Queueing(tick_s=5.0)], ids=["hold", "tick"])
def test_eviction_and_timer(timer: Queueing) -> None:
    """At 5 request 1 comes back and the timer of request 2 (waiting since 1) is due: one question shows both."""
    pair = {**PAIR, "predicted": [2, 2, 1]}
    seen, _ = watch([0, 0, 1], [8, 8, 1], answers=[(1, 2), (1, 0), (1, 2)], queueing=timer, **pair)
    assert [(s.now, s.waiting) for s in seen[:3]] == [(0, 2), (1, 1), (5, 2)]
    assert seen[2].tick == (timer.tick_s == 5.0)
    assert all(s.now > 5 for s in seen[3:])


def test_eviction_and_completion_of_the_same_server() -> None:
    """Member 0 has its two tokens when member 1 must leave: at 5 the batch ends, and the server is asked once."""
    seen, rows = watch([0, 0], [2, 8], answers=[(1, 2)], **{**PAIR, "etas": (20.0,)})
    assert [(s.now, s.waiting, s.head, s.server_batches) for s in seen] == [(0, 2, 0, 0), (5, 1, 1, 1)]
    assert rows["completion"][0] == 5


def test_eviction_and_completion_of_another_server() -> None:
    """At 5 server 0 ends and request 2 leaves server 1: server 0 is asked once, with request 2 waiting."""
    answers = [(1, 1), (1, 2)]
    seen, _ = watch([0, 0, 0], [5, 8, 8], answers=answers, **{**PAIR, "predicted": [2, 2, 2]})
    assert [(s.now, s.server, s.waiting, s.head) for s in seen] == [(0, 0, 3, 0), (0, 1, 2, 1), (5, 0, 1, 2)]


def test_eviction_and_eviction() -> None:
    """Pairs on servers 0 and 1 overflow at 5: the third server sees both that left, in order of number."""
    pair = {**PAIR, "predicted": [2] * 4, "etas": (20.0, 20.0, 30.0)}
    seen, rows = watch([0] * 4, [8] * 4, answers=[(1, 2)], **pair)
    assert [(s.now, s.server, s.waiting, s.head) for s in seen[:3]] == [(0, 0, 4, 0), (0, 1, 2, 2), (5, 2, 2, 1)]
    assert rows["batch"][1] == rows["batch"][3] == 2


def test_decisions_come_last_and_in_server_order() -> None:
    """Free servers are asked in number order, until none is free, nothing waits, or the policy waits."""
    seen, _ = watch([0] * 5, [4] * 5, etas=(INF,) * 3)
    assert [(s.now, s.server, s.free) for s in seen[:3]] == [(0, 0, 3), (0, 1, 2), (0, 2, 1)]
    seen, _ = watch([0, 0, 1], [4] * 3, answers=[(1, 1), (1, 0), (1, 1)], etas=(INF,) * 3)
    assert [(s.now, s.server) for s in seen[:3]] == [(0, 0), (0, 1), (1, 1)]


def test_edges_of_few_requests_are_those_of_many() -> None:
    """Bins belong to the workload's law, not to the run: the same edges whatever N."""
    edges = {bin_edges(Workload("azure-conv", requests=n, rate=2.5), 4) for n in (100, 100_000)}
    assert len(edges) == 1
