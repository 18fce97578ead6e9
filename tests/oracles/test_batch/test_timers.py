"""The batch oracle against schedules worked out by hand: waiting, the hold timer, the tick."""

from __future__ import annotations

from llmsched_env.config import Queueing
from tests.oracles.batch import scripted, timeout, window
from tests.oracles.test_batch.tools import INF, members, simulate, times, watch


def test_wait_parks_all_free_servers_until_the_next_event() -> None:
    # at 0 server 0 waits and server 1 is not asked; at 1 both requests go
    result = simulate(scripted([(1, 0), (1, 1), (1, 1)]), [0, 1], [1, 1], etas=(INF, INF))
    assert [(d.time, d.server) for d in result.decisions] == [(0, 0), (1, 0), (1, 1)]
    assert members(result) == [(1, 0, (0,)), (1, 1, (1,))]


def test_wait_is_masked_when_nothing_can_come() -> None:
    # while request 1 is to come waiting is possible; then (any, max_batch)
    views, decide = watch(scripted([(0, 0)]))
    result = simulate(decide, [0, 1, 1], [1, 1, 1], max_batch=2)
    # at 2 again, for request 2
    assert [(view.now, view.can_wait) for view in views] == [(0, True), (1, False), (2, False)]
    assert members(result) == [(1, 0, (0, 1)), (2, 0, (2,))]


def test_wait_is_possible_while_a_server_is_busy() -> None:
    # t=0: request 0 to 4.  t=1: request 1, server 1 waits.  t=4: completion, server 0 waits, masked.
    views, decide = watch(scripted([(1, 1), (1, 0), (1, 0)]))
    result = simulate(decide, [0, 1], [4, 1], etas=(INF, INF))
    assert [(view.now, view.server, view.can_wait) for view in views] == [(0, 0, True), (1, 1, True), (4, 0, False)]
    assert members(result) == [(0, 0, (0,)), (4, 0, (1,))]


def test_hold_timer() -> None:
    # request 0 arrives at 1 and waits to 1 + 5 = 6, served to 7.  At 7 request 1 comes, waits to 12.
    views, decide = watch(timeout(2, 5))
    result = simulate(decide, [1, 7], [1, 1], queueing=Queueing(hold_s=5))
    assert times(result) == [1, 6, 7, 12]
    assert members(result) == [(6, 0, (0,)), (12, 0, (1,))]
    assert [view.can_wait for view in views] == [True, True, True, False]


def test_the_oldest_that_waits_decides_when_a_timeout_is_over() -> None:
    # requests from 1 and 3, at most 5 s: both at 6
    result = simulate(timeout(3, 5), [1, 3, 20], [1, 1, 1], queueing=Queueing(hold_s=5))
    assert members(result)[0] == (6, 0, (0, 1))


def test_hold_timer_follows_the_oldest_that_waits() -> None:
    # 0 and 1 arrive at 0 and 1; at 1 request 0 goes alone (to 5, server 0); request 1 is now the oldest: 1 + 2 = 3
    result = simulate(
        scripted([(1, 0), (1, 1), (1, 0), (1, 1)]), [0, 1], [4, 1], etas=(INF, INF), queueing=Queueing(hold_s=2)
    )
    assert [(d.time, d.server) for d in result.decisions] == [(0, 0), (1, 0), (1, 1), (3, 1)]


def test_hold_timer_compares_the_sum() -> None:
    # 0.7 + 0.1 is 0.7999999999999999 and its age at that time is less than 0.1; it is served there, asked twice
    arrival, hold = 0.7, 0.1
    assert (arrival + hold) - arrival < hold
    result = simulate(timeout(2, hold), [arrival, 9], [1, 1], queueing=Queueing(hold_s=hold))
    assert times(result)[:2] == [arrival, arrival + hold]
    assert members(result)[0] == (arrival + hold, 0, (0,))


def test_no_hold_timer_in_the_past() -> None:
    # Request 1 returns at 5; 0 + 3 is past: no timer.  Server 1 waits at 5, asked again when server 0 ends at 8,
    # where nothing can come any more.
    result = simulate(
        scripted([(1, 2), (1, 0), (1, 0)]), [0, 0], [8, 8], prompt=5, predicted=[2, 2], etas=(20, 20),
        queueing=Queueing(hold_s=3),
    )  # fmt: skip
    assert [(d.time, d.server) for d in result.decisions] == [(0, 0), (5, 1), (8, 0)]
    assert members(result)[1] == (8, 0, (1,))


def test_tick() -> None:
    # Ticks at 2, 4, 6.  0 and 1 wait to 2, served to 5.  At 4 no server is free.  At 5 the server is asked and waits
    # to 6.
    views, decide = watch(window())
    result = simulate(decide, [0.5, 1, 3, 4], [1, 3, 1, 1], queueing=Queueing(tick_s=2))
    assert times(result) == [0.5, 1, 2, 5, 6]
    assert [view.tick for view in views] == [False, False, True, False, True]
    assert members(result) == [(2, 0, (0, 1)), (6, 0, (2, 3))]


def test_a_tick_comes_again_only_after_something_happened() -> None:
    # Always wait.  Asked at 0.5 and at the tick 1; no ticks at 2 and 3; at 3.5 an arrival; at the tick 4 nothing
    # can come any more and wait means (any, max_batch).
    result = simulate(scripted([(1, 0)]), [0.5, 3.5], [1, 1], queueing=Queueing(tick_s=1))
    assert times(result) == [0.5, 1, 3.5, 4]
    assert members(result) == [(4, 0, (0, 1))]


def test_a_tick_comes_again_after_a_completion_and_after_an_preemption() -> None:
    # overhead 0.5: request 0 to 1.5.  Request 1 waits at 0.25 (server 1), at the tick 1, at 1.5 (completion) and at
    # the tick 2, where nothing can come any more
    queueing = Queueing(tick_s=1)
    script = scripted([(1, 1)] + [(1, 0)] * 9)
    result = simulate(script, [0, 0.25], [1, 1], etas=(INF, INF), queueing=queueing, overhead_s=0.5)
    assert [(d.time, d.server) for d in result.decisions] == [(0, 0), (0.25, 1), (1, 1), (1.5, 0), (2, 0)]
    # request 1 is preempted at 5 and waits there, at the tick 6, at 8 (completion) and at the tick 9, the last
    script = scripted([(1, 2)] + [(1, 0)] * 9)
    queueing = Queueing(tick_s=3)
    result = simulate(script, [0, 0], [8, 8], prompt=5, predicted=[2, 2], etas=(20, 20), queueing=queueing)
    assert times(result) == [0, 5, 6, 8, 9]
