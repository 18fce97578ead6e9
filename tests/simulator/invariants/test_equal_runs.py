"""Runs that must be equal byte for byte: one queue in several forms, a run in pieces, lanes beside each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched_env.config import Queueing, Server, SimConfig
from llmsched_env.core.layout import COMPLETED, DECIDE
from llmsched_env.core.state import TABLE
from llmsched_env.engines.batch.run import run_lane
from llmsched_env.simulation.simulator import Simulator, simulate
from tests.simulator.invariants.equality import assert_equal_bytes, packed, zeroed
from tests.simulator.invariants.test_properties import MEMORY
from tests.simulator.invariants.tools import BLOOM, H100, loaded, run

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
    plain = {"batches": ("choice",), "running": ("choice",)}
    assert_equal_bytes(zeroed(one, **plain), zeroed(single, **plain), bins=False)
    for name in ("batches", "target", "low", "high", "tau", "mean_batch", "memory_target", "mean_l", "mean_l2"):
        assert one.bins[0][name] == one.bins[1][name] == single.bins[1][name], name


@pytest.mark.parametrize("overdue", [None, 2.0])
@pytest.mark.parametrize("config", SETTINGS, ids=SETTING_NAMES)
@pytest.mark.parametrize("policy", ["static:batch=32", "dynamic", "sjf", "timeout", "window"])
def test_many_bins_read_through_any_are_one_queue(config: SimConfig, policy: str, overdue: float | None) -> None:
    """The merge of K bins by the order of one queue is that queue, also beside an overdue queue."""
    requests, edges = loaded(6)
    config = dataclasses.replace(config, queueing=Queueing(overdue_factor=overdue))
    one = run(config, requests, policy)
    many = run(dataclasses.replace(config, queueing=Queueing(edges, overdue_factor=overdue)), requests, policy)
    plain = {"batches": ("choice",), "running": ("choice",)}
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
    plain = {"running": ("worst_e2e",), "servers": ("last_e2e",)}  # E2E is made of the completion
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
        status, _, _ = run_lane(
            simulator.arrays, simulator.record, ready.decide, ready.params, memory, rng, ready.details, limit
        )
        calls += 1
    assert calls == int(whole.counts["decisions"]) // limit + 1
    pieces = dataclasses.replace(simulator.result(), wall_s=whole.wall_s)
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
    state = [array for spec, array in zip(TABLE, simulator.arrays, strict=True) if spec.by_lane]
    untouched = [part[1].tobytes() for part in state]
    for _ in range(2):
        simulator.load(0, requests)
        simulator.run(ready.decide, ready.params, np.zeros(1), np.random.default_rng(0))
        simulator.finish()
        assert packed(simulator.requests[0]) == packed(alone.requests)
        assert packed(simulator.lane[0]) == packed(alone.lane)
        assert packed(simulator.bins[0]) == packed(alone.bins)
    assert [part[1].tobytes() for part in state] == untouched
