"""Whole runs of every policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmsched.policies import get, names, parse
from llmsched_env.config import SLO, Continuous, SimConfig
from llmsched_env.core.layout import COMPLETED
from llmsched_env.requests import Requests
from tests.oracles import batch as reference
from tests.policies.tools import EVERY, config, requests, run, stamps


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("name", EVERY)
def test_no_policy_deadlocks(name: str, servers: int) -> None:
    """500 requests, with memory to spare and without, bins that fill and one queue: all come to an end."""
    for fields in ({}, {"kv_tokens": 9000.0}, {"edges": ()}, {"max_batch": 3}, {"edges": (1, 10**6, 10**7)}):
        result = run(parse(name), config(servers, **fields), requests())
        assert result.counts["completed"] + result.counts["rejected"] + result.counts["dropped"] == 500
        assert result.counts["completed"] >= 490
        assert result.counts["empty_choices"] == 0


@pytest.mark.parametrize("name", EVERY)
def test_a_single_request(name: str) -> None:
    """The smallest workload, where nothing can be waited for."""
    assert run(parse(name), config(), requests(1)).lane["counts"]["completed"] == 1


@pytest.mark.parametrize("kv_tokens", [None, 9000.0])
@pytest.mark.parametrize("text", ["multibin", "multibin:select=longest", "multibin:select=oldest", "longest-queue"])
def test_one_bin_is_one_queue(text: str, kv_tokens: float | None) -> None:
    """With K = 1 a multi-bin policy equals `dynamic` bit for bit."""
    scenario = config(2, edges=(), kv_tokens=kv_tokens)
    ours, plain = (run(parse(name), scenario, requests()) for name in (text, "dynamic"))
    assert stamps(ours).tobytes() == stamps(plain).tobytes()
    assert len({int(size) for size in plain.batches["size"]}) > 3  # not a trivial run


def test_longest_queue_is_multibin_longest() -> None:
    ours, theirs = (run(parse(name), config(2), requests()) for name in ("longest-queue", "multibin:select=longest"))
    assert stamps(ours).tobytes() == stamps(theirs).tobytes()
    assert ours.batches.tobytes() == theirs.batches.tobytes()


def test_edf_with_one_class_is_fifo() -> None:
    for edges in ((), (100, 150, 250)):
        ours, fifo = (
            run(parse(name), config(2, edges, kv_tokens=9000.0), requests()) for name in ("edf:batch=8", "static")
        )
        assert stamps(ours).tobytes() == stamps(fifo).tobytes()


def test_edf_orders_by_the_deadline_that_a_policy_sees() -> None:
    """The smaller of the TTFT and E2E targets; a request that has neither comes last."""
    slos = (SLO(e2e_s=30.0, ttft_s=1.0, share=0.5), SLO(e2e_s=20.0, share=0.25), SLO(tpot_s=1.0, share=0.25))
    drawn = Requests.checked([0.0, 0.1, 0.2, 0.3], [9] * 4, [40] * 4, slo_class=[1, 2, 1, 0])
    rows = run(parse("edf:batch=1"), config(servers=1, slos=slos), drawn).requests
    assert list(np.argsort(rows["dispatch"])) == [0, 3, 2, 1]


def test_edf_with_two_classes_is_not() -> None:
    slos = (SLO(e2e_s=5.0, share=0.5), SLO(e2e_s=60.0, share=0.5, name="slow"))
    drawn = requests(gap_s=0.1)
    drawn = Requests.checked(
        drawn.arrival_s, drawn.prompt_tokens, drawn.output_tokens, drawn.predicted_tokens, np.arange(500) % 2
    )
    ours, fifo = (run(parse(name), config(slos=slos), drawn) for name in ("edf:batch=8", "static"))
    waits = [result.requests["dispatch"] - drawn.arrival_s for result in (ours, fifo)]
    assert waits[0][::2].mean() < 0.5 * waits[1][::2].mean()


def test_timeout_launches_at_arrival_plus_wait() -> None:
    """Requests too far apart to meet: each is launched alone, at the very sum."""
    drawn = requests(200, gap_s=60.0, seed=3)
    for text, wait_s in (("timeout", 0.5), ("timeout:wait=123.4", 123.4 / 1000.0), ("adaptive-memory", 2.0)):
        result = run(parse(text), config(2), drawn)
        due = drawn.arrival_s + wait_s
        lone = np.r_[True, np.diff(drawn.arrival_s) > 30.0] & np.r_[np.diff(drawn.arrival_s) > 30.0, False]
        assert lone.sum() > 50
        np.testing.assert_array_equal(result.requests["dispatch"][lone], due[lone])


def test_timeout_launches_a_full_batch_at_once() -> None:
    drawn = requests(80, gap_s=0.01)
    first = run(parse("timeout:batch=4:wait=60000"), config(), drawn).batches[0]
    assert (first["size"], first["start"]) == (4, drawn.arrival_s[3])


def test_window_launches_at_ticks() -> None:
    result = run(parse("window:every=700"), config(2), requests(200, gap_s=2.0))
    ticks = result.batches["start"][:-1] / 0.7  # the last batch finds nothing to wait for
    np.testing.assert_allclose(ticks, np.rint(ticks), atol=1e-9)
    assert len(ticks) > 50
    for server in (0, 1):  # never overwrites a running batch
        mine = result.batches[result.batches["server"] == server]
        assert (mine["start"][1:] >= mine["end"][:-1]).all()


def test_multibin_fixed_launches_full_batches_of_one_bin() -> None:
    result = run(parse("multibin-fixed:batch=8"), config(2), requests())
    sizes = result.batches["size"]
    assert (sizes == 8).sum() >= 60
    assert (sizes[sizes != 8] < 8).sum() <= 4
    assert (sizes[:-4] == 8).all()
    assert (result.batches["choice"] < 4).all()


def test_multibin_fixed_equals_the_exact_order_while_servers_are_free() -> None:
    """The reference sees the arrival that filled each batch; with servers to spare the policy must agree with it."""
    scenario = config(12)
    drawn = requests(gap_s=0.25)
    ours = run(parse("multibin-fixed:batch=4"), scenario, drawn)
    slow = reference.ReferenceSimulator(scenario, drawn, reference.multibin_fixed(4)).run()
    np.testing.assert_allclose(ours.requests["dispatch"], slow.dispatch, rtol=1e-9)


def test_adaptive_memory_adapts() -> None:
    """Where memory is short the size stays below what plenty of it allows."""
    drawn = requests(gap_s=0.05)
    short, plenty = (run(parse("adaptive-memory"), config(kv_tokens=kv), drawn) for kv in (6000.0, None))
    assert short.batches["size"][20:-1].mean() < 12
    assert (plenty.batches["size"][14:-1] == 32).all()


def test_priority_keeps_its_token_limit() -> None:
    drawn = requests(gap_s=0.05)
    result = run(parse("priority:tokens=600:wait=1e8"), config(), drawn)
    tokens = np.bincount(result.requests["batch"], weights=drawn.predicted_tokens)
    members = np.bincount(result.requests["batch"])
    assert (tokens[members > 1] <= 600).all()
    assert members.max() > 3
    impatient = run(parse("priority:tokens=600:wait=1"), config(), drawn)
    assert np.bincount(impatient.requests["batch"]).max() == 16


def test_clairvoyance_helps_and_is_marked() -> None:
    """Sorted by the truth, the mean latency is lowest; only the oracle may use it."""
    drawn = requests(gap_s=0.1)
    mean = {}
    for name in ("oracle-sjf", "sjf", "static"):
        bound = parse("static" if name == "static" else f"{name}:batch=8")
        rows = run(bound, config(), drawn).requests
        mean[name] = float((rows["completion"] - rows["arrival"])[rows["status"] == COMPLETED].mean())
    assert mean["oracle-sjf"] < mean["sjf"] < mean["static"]
    assert [name for name in names() if get(name).clairvoyant] == ["oracle-sjf", "oracle-srpt"]


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("oracle-")])
def test_nobody_peeks(name: str) -> None:
    """Other true lengths behind the same predictions leave every decision before the first completion as it was."""
    drawn = requests(60, gap_s=0.01)
    other = Requests.checked(
        drawn.arrival_s, drawn.prompt_tokens, drawn.output_tokens[::-1], drawn.predicted_tokens, drawn.slo_class
    )
    ours, theirs = (run(parse(name), config(2, horizon_s=2.0), requests) for requests in (drawn, other))
    before = min(ours.batches["end"].min(initial=2.0), theirs.batches["end"].min(initial=2.0))
    first, second = (result.batches[result.batches["start"] < before] for result in (ours, theirs))
    assert len(first) > 0
    for field in ("server", "choice", "start"):
        np.testing.assert_array_equal(first[field], second[field])


@pytest.mark.parametrize("hook", ["continuous", "adapt"])
def test_no_policy_sets_the_prefix_cache(hook: str) -> None:
    """It belongs to the scenario; a hook that leaves it as it is may name it."""

    def adapt(given: SimConfig, values) -> SimConfig:
        return replace(given, continuous=replace(given.continuous, prefix_cache="on"))

    hooks = {"continuous": lambda values: {"prefix_cache": "on"}, "adapt": adapt}
    changed = replace(get("fcfs"), name="mine", **{hook: hooks[hook]}).bind()  # type: ignore[arg-type]
    scenario = replace(config(), engine="continuous")
    with pytest.raises(ValueError, match="mine sets prefix_cache, which is an option of the scenario: give it there"):
        changed.ready(scenario)
    cached = replace(scenario, continuous=Continuous(prefix_cache="on"))
    assert changed.ready(cached).config.continuous.prefix_cache == "on"
