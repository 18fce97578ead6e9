"""A run in chunks is the run in one piece, stamp for stamp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmsched_env.config import SLO, Continuous, Controller, Queueing, Server, SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import Accumulator, summarize
from llmsched_env.simulation.simulator import simulate
from llmsched_env.simulation.streaming import simulate_stream
from tests.simulator.test_parity import COMPILED

STAMPS = ("arrival", "dispatch", "first_token", "last_token", "completion", "preemptions", "status")


def workload(n: int) -> Requests:
    rng = np.random.default_rng(3)
    output = np.maximum(1, rng.lognormal(4.5, 0.9, n)).astype(int)
    return Requests.checked(
        np.cumsum(rng.exponential(0.35, n)),
        np.maximum(1, rng.lognormal(6.0, 0.9, n)).astype(int),
        output,
        np.maximum(1, np.rint(output * np.exp(0.3 * rng.standard_normal(n)))).astype(int),
    )


def pieces(requests: Requests, size: int):
    for begin in range(0, len(requests), size):
        part = slice(begin, begin + size)
        yield Requests(
            requests.arrival_s[part],
            requests.prompt_tokens[part],
            requests.output_tokens[part],
            requests.predicted_tokens[part],
            requests.slo_class[part],
        )


@pytest.mark.parametrize("discipline", ["fifo", "sjf"])
@pytest.mark.parametrize("name", ["static", "multibin"])
@pytest.mark.parametrize("chunk", [37, 1000, 5000])
def test_chunks_equal_one_run(name: str, discipline: str, chunk: int) -> None:
    """Small memory (preemptions under way at the seams), overload (a long queue at the seams), heaps and lists."""
    requests = workload(3000)
    servers = tuple(Server(load_profile("a100-80gb_bloom-176b_tp8"), eta) for eta in (4000.0, 6000.0))
    config = SimConfig(servers, Queueing((60, 120), discipline), controller=Controller(tbt_s=0.1))
    whole = simulate(config, requests, COMPILED[name], params=[24.0], memory_size=4, warmup=100)
    assert whole.counts["preempted"] > 0
    accumulator, parts = Accumulator(), []
    for part in simulate_stream(
        config, pieces(requests, chunk), COMPILED[name], params=[24.0], memory_size=4, warmup=100
    ):
        accumulator.add(part)
        parts.append(part.requests)
    together = np.sort(np.concatenate(parts), order="arrival")
    for stamp in STAMPS:
        np.testing.assert_array_equal(together[stamp], whole.requests[stamp], err_msg=stamp)
    assert part.counts["holding"] == pytest.approx(float(whole.counts["holding"]), rel=1e-12)
    np.testing.assert_array_equal(part.itl_histogram, whole.itl_histogram)
    exact, streamed = summarize(whole), accumulator.summary()
    for key in ("completed", "dropped", "rejected", "unfinished"):
        assert exact[key] == streamed[key]
    assert streamed["p95_e2el_ms"] == pytest.approx(exact["p95_e2el_ms"], rel=0.006)


@pytest.mark.parametrize("scheduling", ["sync", "async"])
@pytest.mark.parametrize("chunk", [37, 400])
def test_prefix_cache_at_the_seams(scheduling: str, chunk: int) -> None:
    """Blocks that live and ended requests refer to, lists of decoding members, hashes of some tokens and of none."""
    requests, rng = workload(1000), np.random.default_rng(4)
    hashed = np.minimum(requests.prompt_tokens, rng.choice([0, 96, 700], 1000)).astype(np.int32)
    kinds = np.repeat(rng.integers(0, 5, 1000), -(-hashed // 32))
    requests = replace(requests, hashed_tokens=hashed, hash_tokens=32, hashes=np.zeros(len(kinds), np.int64))
    places = np.arange(len(kinds)) - np.repeat(requests.hash_offsets[:-1], -(-hashed // 32))
    requests = replace(requests, hashes=1000 * kinds + places)
    servers = tuple(Server(load_profile("a100-80gb_bloom-176b_tp8"), eta) for eta in (4000.0, 6000.0))
    rules = Continuous(admission="prompt", scheduling=scheduling, prefix_cache="on")
    config = SimConfig(servers, controller=Controller(tbt_s=0.1), engine="continuous", continuous=rules)
    whole = simulate(config, requests, COMPILED["static"], params=[24.0], memory_size=4)
    assert whole.pools is not None and whole.cached_tokens is not None
    assert whole.pools["evicted"].min() > 100 < whole.counts["preempted"] and whole.cached_tokens.sum() > 10_000
    chunks = (requests.part(begin, begin + chunk) for begin in range(0, 1000, chunk))
    parts = list(simulate_stream(config, chunks, COMPILED["static"], params=[24.0], memory_size=4))
    together = np.concatenate([part.requests for part in parts])
    order = np.argsort(together["arrival"])
    for stamp in STAMPS:
        np.testing.assert_array_equal(together[order][stamp], whole.requests[stamp], err_msg=stamp)
    cached = np.concatenate([part.cached_tokens for part in parts if part.cached_tokens is not None])
    np.testing.assert_array_equal(cached[order], whole.cached_tokens)
    for name in ("looked_up", "cached", "recomputed", "evicted", "free"):
        assert parts[-1].pools is not None
        np.testing.assert_array_equal(parts[-1].pools[name], whole.pools[name], err_msg=name)


@pytest.mark.parametrize("discipline", ["fifo", "sjf", "edf"])
@pytest.mark.parametrize("engine, routing", [("batch", "pull"), ("continuous", "pull"), ("continuous", "round-robin")])
@pytest.mark.parametrize("overdue, at_launch", [(1.0, None), (2.0, 0.75)])
@pytest.mark.parametrize("chunk", [37, 400])
def test_overdue_requests_at_the_seams(engine, routing, discipline, overdue, at_launch, chunk) -> None:
    """Lists, heaps with those that have left them, and requests still to become overdue."""
    requests = workload(1000)
    servers = tuple(Server(load_profile("a100-80gb_bloom-176b_tp8"), eta) for eta in (4000.0, 6000.0))
    queueing = Queueing((60, 120), discipline, overdue, at_launch if engine == "batch" else None)
    config = SimConfig(
        servers,
        queueing,
        slos=(SLO(e2e_s=60.0),),
        controller=Controller(tbt_s=0.1),
        engine=engine,
        continuous=Continuous(routing=routing),
    )
    whole = simulate(config, requests, COMPILED["multibin"], memory_size=4)
    assert whole.requests["overdue"].sum() > 100
    parts = simulate_stream(config, pieces(requests, chunk), COMPILED["multibin"], memory_size=4)
    together = np.sort(np.concatenate([part.requests for part in parts]), order="arrival")
    for stamp in (*STAMPS, "overdue"):
        np.testing.assert_array_equal(together[stamp], whole.requests[stamp], err_msg=stamp)


def test_a_chunk_that_leaves_nobody() -> None:
    """All requests ended before becoming overdue, and the last of the chunk was rejected."""
    config = SimConfig(
        (Server(load_profile("a100-80gb_bloom-176b_tp8"), 1000.0),),
        Queueing(overdue_factor=1.0),
        slos=(SLO(e2e_s=1e4),),
    )
    requests = Requests.checked(np.array([0.0, 500.0, 600.0]), [10, 2000, 10], [3, 3, 3], [3, 3, 3])
    parts = list(simulate_stream(config, pieces(requests, 2), COMPILED["static"], params=[4.0]))
    assert [len(part.requests) for part in parts] == [2, 1]
    assert parts[-1].lane["counts"]["completed"] == 2 and parts[-1].lane["counts"]["rejected"] == 1


def test_no_chunks_is_an_error_in_words() -> None:
    config = SimConfig(servers=(Server(load_profile("h100-80gb_llama2-70b_tp4")),))
    with pytest.raises(ValueError, match="no chunks"):
        list(simulate_stream(config, [], COMPILED["static"]))


def test_memory_does_not_grow_with_the_run() -> None:
    """After many chunks the arrays still hold about two chunks."""
    config = SimConfig(tuple(Server(load_profile("h100-80gb_llama2-70b_tp4")) for _ in range(8)), Queueing((60, 120)))
    from llmsched_env.simulation import streaming

    sizes = []
    original = streaming.append

    def spy(simulator, requests):
        simulator = original(simulator, requests)
        sizes.append(simulator.capacity)
        return simulator

    streaming.append = spy
    try:
        for _ in simulate_stream(config, pieces(workload(20_000), 500), COMPILED["static"], params=[24.0]):
            pass
    finally:
        streaming.append = original
    assert len(sizes) == 40 and max(sizes) <= 2000
