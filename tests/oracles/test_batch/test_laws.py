"""What holds in every run of the batch oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llmsched_env.config import Queueing, Server, SimConfig
from llmsched_env.requests import Requests
from tests.oracles.batch import (
    COMPLETED,
    DROPPED,
    IN_SERVICE,
    REJECTED,
    Decide,
    ReferenceSimulator,
    dynamic,
    multibin,
    multibin_fixed,
    scripted,
    static,
    timeout,
    window,
)
from tests.oracles.test_batch.tools import INF, equal, members, split

PROFILE = split(d0=20, d1=0.3, d2=0.0005, p0=20, p1=0.1, p2=1e-5)

POLICIES: dict[str, Callable[[], Decide]] = {
    "static": lambda: static(8),
    "dynamic": dynamic,
    "multibin": multibin,
    "longest": lambda: multibin("longest"),
    "oldest": lambda: multibin("oldest"),
    "fixed": lambda: multibin_fixed(4),
    "timeout": lambda: timeout(8, 1.0),
    "window": window,
    "scripted": lambda: scripted([(0, 3), (1, 0), (2, 200), (3, 1), (1, 9), (3, 0)]),
}


def random_requests(seed: int, n: int = 200) -> Requests:
    """Requests with wrong predictions, some too large, some arriving together."""
    rng = np.random.default_rng(seed)
    arrival = np.round(np.cumsum(rng.exponential(0.15, n)), 1)
    return Requests.checked(arrival, rng.integers(1, 700, n), rng.integers(1, 400, n), rng.integers(1, 300, n))


def random_config(**options: Any) -> SimConfig:
    """Three servers of two sizes and three bins."""
    servers = (Server(PROFILE, 650.0), Server(PROFILE, 1500.0), Server(PROFILE, 650.0))
    return SimConfig(servers, Queueing(edges=(50, 120), hold_s=1.0, tick_s=0.5), **options)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("horizon", [INF, 12.0])
def test_conservation(name: str, horizon: float) -> None:
    for seed in range(3):
        requests = random_requests(seed)
        simulator = ReferenceSimulator(random_config(horizon_s=horizon), requests, POLICIES[name](), tbt_s=0.05)
        result = simulator.run()
        completed, rejected, dropped = (result.count(status) for status in (COMPLETED, REJECTED, DROPPED))
        assert completed + rejected + dropped + result.unfinished == len(requests)
        assert (result.unfinished == 0) == math.isinf(horizon)
        assert (np.isfinite(result.completion) == (result.status == COMPLETED)).all()
        assert sum(len(queue) for queue in simulator.bins) <= result.unfinished
        # every launch of a request ends in completion, drop or preemption, or is still in service
        launches = np.bincount([m for batch in result.batches for m in batch.members], minlength=len(requests))
        ended = np.isin(result.status, (COMPLETED, DROPPED, IN_SERVICE))
        equal(launches, result.preemptions + ended)
        # stamps are in order
        stamps = [requests.arrival_s, result.dispatch, result.first_token, result.last_token, result.completion]
        for before, after in zip(stamps, stamps[1:], strict=False):
            assert not (after < before).any()
        # a server does one thing at a time, within its memory
        for server in range(3):
            mine = [batch for batch in result.batches if batch.server == server]
            assert all(a.end <= b.dispatch for a, b in zip(mine, mine[1:], strict=False))
            assert all(batch.peak_tokens <= simulator.servers[server].eta for batch in mine)
        # the integral of the number in system is the sum of the times in system
        ends = np.minimum(np.where(np.isnan(result.completion), result.end, result.completion), result.end)
        for batch in result.batches:
            if batch.run.dropped is not None and batch.end <= result.end:
                ends[batch.run.dropped] = batch.end
        present = (result.status != REJECTED) & (requests.arrival_s <= result.end)
        total = float((ends - requests.arrival_s)[present].sum())
        assert result.in_system_integral == pytest.approx(total, rel=1e-9)


def test_the_random_runs_see_everything() -> None:
    requests = random_requests(0)
    result = ReferenceSimulator(random_config(), requests, POLICIES["scripted"](), tbt_s=0.05).run()
    requests_long = Requests.checked([0], [600], [2000], [10])
    long = ReferenceSimulator(random_config(), requests_long, static(1), tbt_s=0.05).run()
    assert result.preemptions.sum() > 0
    assert result.empty_choices > 0
    assert any(decision.size == 0 for decision in result.decisions)
    assert long.count(DROPPED) == 1


def test_one_queue_and_many_bins_read_through_any_are_the_same() -> None:
    requests = random_requests(1)
    servers = (Server(PROFILE, 900.0), Server(PROFILE, 900.0))
    for discipline in ("fifo", "sjf", "priority"):
        one, many, single_bin = (
            ReferenceSimulator(
                SimConfig(servers, Queueing(edges, discipline)), requests, scripted([(b, 6)]), tbt_s=0.05
            ).run()
            for edges, b in (((), 1), ((50, 120, 200), 4), ((), 0))
        )
        assert members(one) == members(many) == members(single_bin)
        equal(one.completion, many.completion)


def test_with_one_class_deadline_order_is_arrival_order() -> None:
    requests = random_requests(2)
    runs = [
        ReferenceSimulator(
            SimConfig((Server(PROFILE, 1500.0),), Queueing(discipline=discipline)), requests, static(6), tbt_s=0.05
        ).run()
        for discipline in ("fifo", "edf", "sjf")
    ]
    assert members(runs[0]) == members(runs[1]) != members(runs[2])
