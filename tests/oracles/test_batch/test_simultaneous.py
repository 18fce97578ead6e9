"""The batch oracle at instants where several events coincide: which server is asked, when, and what waits then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched_env.config import Queueing
from tests.oracles.batch import scripted, static, timeout, window
from tests.oracles.test_batch.tools import INF, OVERFLOW, equal, members, simulate, times, watch


def test_completions_in_server_order() -> None:
    # Server 0: request 0 to 1, then request 2 from 1 to 4.  Server 1: request 1 from 0 to 4, dispatched earlier.
    # At 4 server 0 is first.  Lengths 2 + 1, 4 + 3, 6 + 4:
    # mu = 3, then 0.8 * 3 + 0.2 * 7 = 3.8, then 0.8 * 3.8 + 2 = 5.04
    result = simulate(static(1), [0, 0, 1], [1, 4, 3], prompt=[2, 6, 4], etas=(INF, INF))
    equal(result.completion, [1, 4, 4])
    np.testing.assert_allclose([state.mu for state in result.trace[1]], [3, 3.8, 5.04], rtol=1e-15)


def test_free_servers_are_asked_in_number_order() -> None:
    # both are free at 3 (server 1 was asked to work later than server 0)
    result = simulate(static(1), [0, 0, 1, 2], [3, 3, 1, 1], etas=(INF, INF))
    assert members(result)[2:] == [(3, 0, (2,)), (3, 1, (3,))]


def test_preemption_and_completion_of_another_server() -> None:
    # Server 0: request 0 (5 tokens) to 5.  Server 1: 1 and 2, request 2 leaves at 5.
    # One question at 5, with request 2.
    result = simulate(
        scripted([(1, 1), (1, 2), (1, 2)]), [0, 0, 0], [5, 8, 8], prompt=5, predicted=[2] * 3, etas=(20, 20)
    )
    assert members(result) == [(0, 0, (0,)), (0, 1, (1, 2)), (5, 0, (2,))]
    assert times(result) == [0, 0, 5]


def test_preemption_and_completion_of_its_own_server() -> None:
    # at 5 request 1 leaves and the batch ends: it is asked once and sees request 1
    views, decide = watch(static(2))
    simulate(decide, [0, 0], [2, 8], **OVERFLOW)
    assert [(view.now, view.head_number, view.last.completed_batches) for view in views] == [
        (0, (0, 0), 0),
        (5, (1, 1), 1),
    ]


def test_preemptions_of_two_servers() -> None:
    # pairs 0, 1 and 2, 3 overflow at 5 on servers 0 and 1; server 2 is asked once and takes 1 and 3 together
    result = simulate(static(2), [0] * 4, [8] * 4, prompt=5, predicted=[2] * 4, etas=(20, 20, 30))
    assert members(result)[2] == (5, 2, (1, 3))


def simultaneous(kind: str) -> tuple[list[float], list[int], dict[str, Any]]:
    """Server 0 works from 0 such that an event of this kind happens at 5, while server 1 is free."""
    if kind == "completion":
        return [0], [5], {"prompt": [5], "predicted": [2]}
    return [0, 0], [8, 8], {"prompt": [5, 5], "predicted": [2, 2]}


@pytest.mark.parametrize("kind", ["completion", "preemption"])
def test_server_events_come_before_arrivals(kind: str) -> None:
    # one question at 5; it sees what the server event did and the request that arrives at 5
    arrival, output, lengths = simultaneous(kind)
    views, decide = watch(scripted([(1, 2)]))
    result = simulate(
        decide, [*arrival, 5], [*output, 1], prompt=[*lengths["prompt"], 1], predicted=[*lengths["predicted"], 1],
        etas=(20, 20),
    )  # fmt: skip
    assert [view.now for view in views] == [0, 5]
    if kind == "completion":
        assert (views[1].server, views[1].queues[0], views[1].last.size) == (0, (1,), 1)
    else:
        assert (views[1].server, views[1].queues[0]) == (1, (1, 2))
    assert members(result)[1][2] == views[1].queues[0]


@pytest.mark.parametrize("kind", ["completion", "preemption"])
@pytest.mark.parametrize("timer", ["hold", "tick"])
def test_server_events_come_before_timers(kind: str, timer: str) -> None:
    # A request that arrives at 1 waits: asked at 1 (server 1), then once at 5, where the timer (1 + 4, or 5) is due.
    arrival, output, lengths = simultaneous(kind)
    queueing = Queueing(hold_s=4) if timer == "hold" else Queueing(tick_s=5)
    views, decide = watch(scripted([(1, 2), (1, 0), (1, 2)]))
    simulate(
        decide, [*arrival, 1], [*output, 1], prompt=[*lengths["prompt"], 1], predicted=[*lengths["predicted"], 1],
        etas=(20, 20), queueing=queueing,
    )  # fmt: skip
    assert [view.now for view in views[:3]] == [0, 1, 5]
    assert all(view.now > 5 for view in views[3:])
    assert views[2].tick == (timer == "tick")
    assert (views[2].free_servers, views[2].waiting) == ((2, 1) if kind == "completion" else (1, 2))


@pytest.mark.parametrize("timer", ["hold", "tick"])
def test_arrivals_come_before_timers(timer: str) -> None:
    # request 0 waits from 0.5 to 2; request 1 arrives at 2 and is in the batch that the timer starts
    queueing = Queueing(hold_s=1.5) if timer == "hold" else Queueing(tick_s=2)
    decide = timeout(9, 1.5) if timer == "hold" else window()
    result = simulate(decide, [0.5, 2], [1, 1], queueing=queueing)
    assert times(result) == [0.5, 2]
    assert members(result) == [(2, 0, (0, 1))]


def test_a_request_that_arrives_at_a_tick_is_in_time() -> None:
    result = simulate(window(), [2, 5], [1, 1], queueing=Queueing(tick_s=2))
    assert times(result) == [2, 5, 6]


def test_hold_timer_and_tick() -> None:
    # both at 2, one question
    result = simulate(timeout(9, 1.5), [0.5, 9], [1, 1], queueing=Queueing(hold_s=1.5, tick_s=2))
    assert times(result) == [0.5, 2, 9, 10, 10.5]


def test_arrivals_in_number_order() -> None:
    result = simulate(static(1), [0, 0, 0], [1, 1, 1])
    assert members(result) == [(0, 0, (0,)), (1, 0, (1,)), (2, 0, (2,))]
    assert [d.lengths for d in result.decisions] == [(3,), (2,), (1,)]
