"""The batch oracle against schedules worked out by hand: memory that overflows, reservations, dropped requests."""

from __future__ import annotations

import math

from llmsched_env.config import Queueing
from tests.oracles.batch import COMPLETED, DROPPED, REJECTED, scripted, static
from tests.oracles.test_batch.tools import NAN, OVERFLOW, RICH, equal, members, simulate, watch


def test_overflow_evicts_the_latest_and_it_returns() -> None:
    # Reservations 7 + 7 <= 20.  After j tokens 10 + 2 j: full at j = 5, t = 5; request 1 leaves with 5 tokens.
    # Request 0 goes on alone with 10 tokens and ends at 8.  Then request 1: P = 10, R = 3: first step at 9, ends at 11.
    views, decide = watch(static(2))
    result = simulate(decide, [0, 0], [8, 8], **OVERFLOW)
    assert members(result) == [(0, 0, (0, 1)), (8, 0, (1,))]
    equal(result.dispatch, [0, 0])
    equal(result.first_token, [1, 1])
    equal(result.last_token, [8, 11])
    equal(result.completion, [8, 11])
    equal(result.preemptions, [0, 1])
    assert [batch.peak_tokens for batch in result.batches] == [20, 13]
    assert views[1].head_predicted == (6, 6)
    assert views[1].last.peak_kv_share == 1
    assert result.in_system_integral == 19
    # decode: 4 steps with two members, 3 with one
    assert (result.batches[0].run.steps, result.batches[0].run.member_steps) == (7, 11)


def test_an_preempted_request_goes_to_a_free_server_at_once() -> None:
    # request 1 leaves server 0 at 5 and needs 3 more tokens: server 1 from 5 to 8
    result = simulate(static(2), [0, 0], [8, 8], prompt=5, predicted=[2, 2], etas=(20, 20))
    assert members(result) == [(0, 0, (0, 1)), (5, 1, (1,))]
    equal(result.completion, [8, 8])


def test_steps_after_an_preemption_cost_what_the_smaller_batch_costs() -> None:
    # prompts 5 and 5, eta 16: full at j = 3.  RICH: prefill 0.25 * 10 + 0.125 * 50 = 8.75;
    # steps with two: 2 + 0.125 * (12, 14) = 3.5, 3.75: t = 16; then request 0 alone with 8 tokens:
    # step 3: 1.5 + 0.125 * 8 = 2.5, so its fourth token comes at 18.5
    result = simulate(static(2), [0, 0], [4, 4], prompt=5, predicted=[2, 2], etas=(16, 16), profile=RICH)
    assert result.completion[0] == 18.5
    # request 1 on server 1 from 16: one token left, prefill of 5 + 3 tokens: 0.25 * 8 + 0.125 * 64 = 10
    assert members(result)[1] == (16, 1, (1,))
    assert result.completion[1] == 26
    assert result.first_token[1] == 8.75


def test_two_leave_before_one_step_and_return_in_number_order() -> None:
    # Four of prompt 1 on eta 8: after the prefill 8 tokens.  Next step 12; without 3: 9; without 2: 6.
    # Both go on server 1 at t=1, in number order, with one token to come: done at 2.
    result = simulate(static(4), [0] * 4, [2] * 4, predicted=[1] * 4, etas=(8, 8))
    assert members(result) == [(0, 0, (0, 1, 2, 3)), (1, 1, (2, 3))]
    equal(result.completion, [2, 2, 2, 2])
    equal(result.preemptions, [0, 0, 1, 1])


def test_when_the_last_that_lacks_tokens_leaves_the_batch_ends() -> None:
    # request 0 has its 2 tokens at t=2 and stays (padding); at t=5 request 1 leaves and none lacks tokens:
    # request 0 is released at 5.  Request 1 is served again at once: 3 tokens, to 8.
    result = simulate(static(2), [0, 0], [2, 8], **OVERFLOW)
    equal(result.last_token, [2, 8])
    equal(result.completion, [5, 8])
    assert members(result) == [(0, 0, (0, 1)), (5, 0, (1,))]


def test_who_has_all_tokens_is_not_preempted() -> None:
    # request 1 is the latest but complete: request 0 leaves at 5
    result = simulate(static(2), [0, 0], [8, 2], **OVERFLOW)
    equal(result.preemptions, [1, 0])
    equal(result.completion, [8, 5])


def test_preempted_requests_come_first_whatever_the_discipline() -> None:
    # SJF; requests 0 and 1 predicted 2; request 1 is preempted at 5 and returns before request 2, predicted 1
    result = simulate(
        scripted([(1, 2), (1, 1), (1, 1)]), [0, 0, 4], [8, 8, 1], prompt=5, predicted=[2, 2, 1], etas=(20,),
        queueing=Queueing(discipline="sjf"),
    )  # fmt: skip
    assert members(result) == [(0, 0, (0, 1)), (8, 0, (1,)), (11, 0, (2,))]


def test_alone_and_too_long_is_dropped() -> None:
    # 5 + j <= 10 to j = 5, t = 5; four steps of 1 s.  Request 1 (prompt 5, 5 tokens) just fits.
    result = simulate(static(1), [0, 0], [8, 5], prompt=5, predicted=[3, 3], etas=(10,))
    equal(result.status, [DROPPED, COMPLETED])
    equal(result.first_token, [1, 6])
    equal(result.last_token, [NAN, 10])
    equal(result.completion, [NAN, 10])
    equal(result.preemptions, [0, 0])
    assert [batch.end for batch in result.batches] == [5, 10]
    assert [batch.peak_tokens for batch in result.batches] == [10, 10]
    assert result.in_system_integral == 15
    after_drop, _ = result.trace[1]
    assert (after_drop.tau, after_drop.bbar) == (1, 1)  # the tau part is updated,
    assert math.isnan(after_drop.mu)  # the memory part is not


def test_rejected_at_arrival() -> None:
    # largest eta 10: prompt 9 + 1 fits, prompt 10 + 1 does not
    result = simulate(static(4), [0, 0, 1], [1, 1, 1], prompt=[9, 10, 10], etas=(4, 10))
    equal(result.status, [COMPLETED, REJECTED, REJECTED])
    equal(result.dispatch, [0, NAN, NAN])
    assert result.in_system_integral == 1


def test_admission_stops_at_the_first_that_does_not_fit() -> None:
    # 7 tokens reserved, then 17 do not fit in 20, and request 2 (4) does not overtake
    result = simulate(static(3), [0, 0, 0], [1, 1, 1], prompt=[5, 15, 2], predicted=[2, 2, 2], etas=(20,))
    assert members(result) == [(0, 0, (0,)), (1, 0, (1,)), (2, 0, (2,))]


def test_reservation_is_by_prediction_and_fills_to_the_brim() -> None:
    # 7 + 7 + 6 = 20 fits exactly, though the truth is 1 token each
    result = simulate(static(3), [0, 0, 0], [1, 1, 1], prompt=[5, 5, 5], predicted=[2, 2, 1], etas=(20,))
    assert members(result) == [(0, 0, (0, 1, 2))]
    result = simulate(static(3), [0, 0, 0], [1, 1, 1], prompt=[5, 5, 5], predicted=[2, 2, 2], etas=(20,))
    assert members(result) == [(0, 0, (0, 1)), (1, 0, (2,))]


def test_reservation_is_capped_by_eta() -> None:
    # predicted 100 on 10 tokens: reserves all, alone
    result = simulate(static(2), [0, 0], [1, 1], prompt=[4, 4], predicted=[100, 1], etas=(10,))
    assert members(result) == [(0, 0, (0,)), (1, 0, (1,))]


def test_a_server_that_cannot_hold_the_head_is_parked_alone() -> None:
    # Server 0 (5 tokens) cannot hold prompt 5 + 1: server 1 takes request 0.  Request 1 would fit server 0,
    # which is asked again only at the next event, the arrival of request 2 at 0.5.
    result = simulate(static(1), [0, 0, 0.5], [9, 1, 1], prompt=[5, 1, 1], predicted=[1, 1, 1], etas=(5, 20))
    assert members(result) == [(0, 1, (0,)), (0.5, 0, (1,)), (1.5, 0, (2,))]
    assert [(d.time, d.server) for d in result.decisions] == [(0, 0), (0, 1), (0.5, 0), (1.5, 0)]
