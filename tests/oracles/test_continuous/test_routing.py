"""The continuous oracle: which server a request is sent to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.oracles.continuous import Options, cap
from tests.oracles.test_continuous.tools import INF, equal, run


def sent(routing: str, arrival: Sequence[float], output: Sequence[int], **more: Any) -> list[int]:
    """The server of each request's first admission."""
    result = run(cap(8), arrival, output, options=Options(routing=routing), **more)
    first: dict[int, int] = {}
    for decision in result.decisions:
        for number in decision.admitted:
            first.setdefault(number, decision.server)
    return [first[number] for number in range(len(arrival))]


def test_round_robin_passes_over_who_cannot_hold_it() -> None:
    assert sent("round-robin", [0, 0, 0, 0], [1] * 4, etas=(64, 64, 64)) == [0, 1, 2, 0]
    assert sent("round-robin", [0, 0, 0, 0], [1] * 4, prompt=[1, 40, 1, 1], etas=(64, 32, 64)) == [0, 2, 0, 1]


def test_least_outstanding_counts_waiting_and_running() -> None:
    # at 1.5 server 0 has request 0 left, server 1 nothing
    assert sent("least-outstanding", [0, 0, 1.5, 1.5], [9, 1, 9, 9], etas=(64, 64)) == [0, 1, 1, 0]


def test_join_shortest_kv_is_a_share_of_the_capacity() -> None:
    # 0: 30 tokens wait at server 0 (30/64); 1: server 1 (30/128); 2: 60/128 > 30/64 = 60/128, a tie: server 0
    assert sent("join-shortest-kv", [0, 0, 0], [1] * 3, prompt=[30, 60, 1], etas=(64, 128)) == [0, 1, 0]
    # running: 2 blocks of 4 are 1/2, 2 of 8 are 1/4
    assert sent("join-shortest-kv", [0, 0, 0.5], [5] * 3, prompt=[30, 30, 1], etas=(64, 128)) == [0, 1, 1]


def test_pushed_requests_wait_for_their_server() -> None:
    # two servers, one slot each: request 2 was sent to server 0, which is busy to 9, while server 1 is idle from 1 on
    result = run(cap(8), [0, 0, 0], [9, 1, 1], etas=(INF, INF), options=Options(routing="round-robin"), max_batch=1)
    equal(result.dispatch, [0, 0, 9])
    equal(run(cap(8), [0, 0, 0], [9, 1, 1], etas=(INF, INF), max_batch=1).dispatch, [0, 0, 1])
