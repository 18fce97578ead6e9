"""The slow oracle against schedules worked out by hand.

Most tests use UNIT: prefill 1 s, every decode step 1 s, whatever the batch; so a batch whose longest
member produces L tokens takes L seconds and all times are exact.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import pytest

from llmsched_env.config import SLO, Controller, Queueing, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles.reference import (
    COMPLETED,
    DROPPED,
    IN_SERVICE,
    REJECTED,
    WAITING,
    Decide,
    MemoryController,
    ReferenceResult,
    ReferenceSimulator,
    SlaController,
    View,
    decode_step_s,
    discipline_key,
    dynamic,
    multibin,
    multibin_fixed,
    prefill_s,
    safe_tbt_s,
    scripted,
    service_alone_s,
    static,
    timeout,
    window,
)

INF = math.inf
NAN = math.nan
PLAIN = Queueing()


def split(**coefficients: float) -> Profile:
    """A profile of the form `split`, zero where nothing is said."""
    return Profile("split", "split", {"d0": 0, "d1": 0, "d2": 0, "p0": 0, "p1": 0, "p2": 0} | coefficients, INF)


UNIT = split(d0=1000, p0=1000)
RICH = split(d0=1000, d1=500, d2=125, p0=2000, p1=250, p2=125)
AFFINE = Profile("affine", "affine", RICH.coefficients, INF)
FLOOR = Profile("floor", "floor", RICH.coefficients, INF)
TOKENS = Profile("tokens", "tokens", {"w0": 1000, "e0": 500, "w1": 250, "a_p": 125, "a_d": 125}, INF)
LENGTH = Profile("length", "batch-length", {"a": 1000, "beta": 500, "g": 0.5}, INF)
TOTAL = Profile("total", "batch-length", {"a": 1000, "beta": 500, "g": 0.5}, INF, length="total")


def simulate(
    decide: Decide,
    arrival: Sequence[float],
    output: Sequence[int],
    *,
    prompt: int | Sequence[int] = 1,
    predicted: Sequence[int] | None = None,
    etas: Sequence[float] = (INF,),
    profile: Profile = UNIT,
    queueing: Queueing = PLAIN,
    noise: Sequence[float] = (),
    **options: object,
) -> ReferenceResult:
    """Run a policy on a few requests; one server per entry of ``etas``."""
    prompts = [prompt] * len(arrival) if isinstance(prompt, int) else prompt
    requests = Requests.checked(arrival, prompts, output, predicted)
    servers = tuple(Server(profile, eta) for eta in etas)
    config = SimConfig(servers, queueing, **options)
    return ReferenceSimulator(config, requests, decide, noise=noise, tbt_s=0.05).run()


def members(result: ReferenceResult) -> list[tuple[float, int, tuple[int, ...]]]:
    """Every batch as (dispatch, server, members)."""
    return [(batch.dispatch, batch.server, batch.members) for batch in result.batches]


def times(result: ReferenceResult) -> list[float]:
    """When servers were asked."""
    return [decision.time for decision in result.decisions]


def watch(decide: Decide) -> tuple[list[View], Decide]:
    """A policy and the list of what it was shown."""
    views: list[View] = []

    def watched(view: View) -> tuple[int, int]:
        views.append(view)
        return decide(view)

    return views, watched


def equal(actual: object, expected: object) -> None:
    """Exact equality in which NaN equals NaN."""
    np.testing.assert_array_equal(actual, expected)


# ---- schedules


def test_six_requests_on_two_servers() -> None:
    # t=0   requests 0 and 1 (3 and 1 tokens) on server 0: prefill to 1, L=3, ends at 3
    # t=1   request 2 (2 tokens) on server 1: prefill to 2, ends at 3
    # t=1.5 and 2: requests 3 and 4 wait, nobody is free
    # t=3   both servers complete; server 0 takes 3 and 4 (4 and 1 tokens), ends at 7; nothing is left for server 1
    # t=9   request 5 (2 tokens) on server 0, ends at 11
    arrival = [0, 0, 1, 1.5, 2, 9]
    result = simulate(static(2), arrival, [3, 1, 2, 4, 1, 2], etas=(INF, INF))
    assert members(result) == [(0, 0, (0, 1)), (1, 1, (2,)), (3, 0, (3, 4)), (9, 0, (5,))]
    equal(result.dispatch, [0, 0, 1, 3, 3, 9])
    equal(result.first_token, [1, 1, 2, 4, 4, 10])
    equal(result.last_token, [3, 1, 3, 7, 4, 11])
    equal(result.completion, [3, 3, 3, 7, 7, 11])
    equal(result.status, [COMPLETED] * 6)
    # the times in system: 3 + 3 + 2 + 5.5 + 5 + 2
    assert result.in_system_integral == 20.5
    assert [(d.time, d.server, d.lengths) for d in result.decisions] == [
        (0, 0, (2,)),
        (1, 1, (1,)),
        (3, 0, (2,)),
        (9, 0, (1,)),
    ]


def test_own_release_moves_the_stamp_and_nothing_else() -> None:
    arrival, output = [0, 0, 1, 1.5, 2, 9], [3, 1, 2, 4, 1, 2]
    batch = simulate(static(2), arrival, output)
    own = simulate(static(2), arrival, output, release="own")
    equal(own.completion, batch.last_token)
    assert (own.completion != batch.completion).any()
    equal(own.dispatch, batch.dispatch)
    assert own.in_system_integral == batch.in_system_integral


def test_overhead_comes_before_the_prefill() -> None:
    # dispatch 1, start 1.5, prefill to 2.5, one step to 3.5
    result = simulate(static(1), [1], [2], overhead_s=0.5)
    assert (result.dispatch[0], result.first_token[0], result.completion[0]) == (1, 2.5, 3.5)
    assert (result.batches[0].dispatch, result.batches[0].start) == (1, 1.5)


def test_noise_multiplies_every_duration_of_a_batch() -> None:
    # sigma 1, z = 1/2 + ln 2: exp(z - 1/2) = 2; the second batch has z = 1/2: exp(0) = 1
    noisy = Profile("noisy", "split", UNIT.coefficients, INF, noise_sigma=1.0)
    result = simulate(static(1), [0, 0], [3, 3], profile=noisy, noise=[0.5 + math.log(2), 0.5])
    np.testing.assert_allclose(result.first_token, [2, 7], rtol=1e-15)
    np.testing.assert_allclose(result.completion, [6, 9], rtol=1e-15)


@pytest.mark.parametrize(
    ("profile", "first", "last", "end"),
    [
        # prompts 2 and 4 (T = 6, Q = 4 + 16 = 20), outputs 3 and 2
        # split: prefill max(2, 0.25 * 6 + 0.125 * 20) = 4; steps 1 + 0.5 * 2 + 0.125 * (6 + 2 j) = 3, 3.25
        (RICH, 4, (10.25, 7), 10.25),
        # affine: prefill 2 + 0.25 * 6 + 0.125 * 20 = 6; the steps of split
        (AFFINE, 6, (12.25, 9), 12.25),
        # floor: the prefill of split; steps max(1, 0.5 * 2) + 0.125 * (6 + 2 j) = 2, 2.25
        (FLOOR, 4, (8.25, 6), 8.25),
        # tokens: prefill max(1, 0.5 + 0.25 * 6) + 0.125 * 20 = 4.5;
        # steps max(1, 0.5 + 0.25 * 2) + 0.125 * (6 + 2 j) = 2, 2.25
        (TOKENS, 4.5, (8.75, 6.5), 8.75),
        # batch-length: h = 1 + 0.5 / 2 = 1.25, a token 0.625; 1 + 0.625 * 3, 1 + 0.625 * 2
        (LENGTH, 1, (2.875, 2.25), 2.875),
        # total lengths 5 and 6: 1 + 0.625 * 5, 1 + 0.625 * 6
        (TOTAL, 1, (4.125, 4.75), 4.75),
    ],
    ids=["split", "affine", "floor", "tokens", "batch-length", "batch-length-total"],
)
def test_latency_forms(profile: Profile, first: float, last: tuple[float, float], end: float) -> None:
    result = simulate(static(2), [0, 0], [3, 2], prompt=[2, 4], profile=profile)
    equal(result.first_token, [first, first])
    equal(result.last_token, last)
    equal(result.completion, [end, end])


def test_hinges_of_the_forms() -> None:
    assert prefill_s(RICH, [1, 1]) == 2  # 0.25 * 2 + 0.125 * 2 is below p0
    assert prefill_s(TOKENS, [1]) == 1.125  # 0.5 + 0.25 is below w0; + 0.125
    assert decode_step_s(TOKENS, 1, 0) == 1  # 0.5 + 0.25 is below w0
    assert decode_step_s(TOKENS, 3, 8) == 2.25  # 0.5 + 0.75, + 0.125 * 8


def test_batch_length_caps_memory_by_reservation() -> None:
    # request 0: prompt 2, predicted 5, reserves 7; 2 + 3 = 5 tokens in the end.
    # request 1: prompt 4, predicted 1, reserves 5; 4 + 3 (padded) = 7 tokens, capped to 5.  12 reserved of 13.
    result = simulate(static(2), [0, 0], [3, 2], prompt=[2, 4], predicted=[5, 1], profile=LENGTH, etas=(13,))
    assert [(batch.members, batch.peak_tokens) for batch in result.batches] == [((0, 1), 10)]
    # one step less than the longest output, each 0.625 s, with both members
    assert (result.batches[0].run.steps, result.batches[0].run.decode_s, result.batches[0].run.member_steps) == (
        2,
        1.25,
        4,
    )


# ---- memory


OVERFLOW = {"prompt": 5, "predicted": [2, 2], "etas": (20,)}


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
    equal(result.evictions, [0, 1])
    assert [batch.peak_tokens for batch in result.batches] == [20, 13]
    assert views[1].head_predicted == (6, 6)
    assert views[1].last.peak_kv_share == 1
    assert result.in_system_integral == 19
    # decode: 4 steps with two members, 3 with one
    assert (result.batches[0].run.steps, result.batches[0].run.member_steps) == (7, 11)


def test_an_evicted_request_goes_to_a_free_server_at_once() -> None:
    # request 1 leaves server 0 at 5 and needs 3 more tokens: server 1 from 5 to 8
    result = simulate(static(2), [0, 0], [8, 8], prompt=5, predicted=[2, 2], etas=(20, 20))
    assert members(result) == [(0, 0, (0, 1)), (5, 1, (1,))]
    equal(result.completion, [8, 8])


def test_steps_after_an_eviction_cost_what_the_smaller_batch_costs() -> None:
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
    equal(result.evictions, [0, 0, 1, 1])


def test_when_the_last_that_lacks_tokens_leaves_the_batch_ends() -> None:
    # request 0 has its 2 tokens at t=2 and stays (padding); at t=5 request 1 leaves and nobody lacks tokens:
    # request 0 is released at 5.  Request 1 is served again at once: 3 tokens, to 8.
    result = simulate(static(2), [0, 0], [2, 8], **OVERFLOW)
    equal(result.last_token, [2, 8])
    equal(result.completion, [5, 8])
    assert members(result) == [(0, 0, (0, 1)), (5, 0, (1,))]


def test_who_has_all_tokens_is_not_evicted() -> None:
    # request 1 is the latest but complete: request 0 leaves at 5
    result = simulate(static(2), [0, 0], [8, 2], **OVERFLOW)
    equal(result.evictions, [1, 0])
    equal(result.completion, [8, 5])


def test_evicted_requests_come_first_whatever_the_discipline() -> None:
    # SJF; requests 0 and 1 predicted 2; request 1 is evicted at 5 and returns before request 2, predicted 1
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
    equal(result.evictions, [0, 0])
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


# ---- waiting and timers


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
    # Ticks at 2, 4, 6.  0 and 1 wait to 2, served to 5.  At 4 nobody is free.  At 5 the server is asked and waits
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


def test_a_tick_comes_again_after_a_completion_and_after_an_eviction() -> None:
    # overhead 0.5: request 0 to 1.5.  Request 1 waits at 0.25 (server 1), at the tick 1, at 1.5 (completion) and at
    # the tick 2, where nothing can come any more
    queueing = Queueing(tick_s=1)
    script = scripted([(1, 1)] + [(1, 0)] * 9)
    result = simulate(script, [0, 0.25], [1, 1], etas=(INF, INF), queueing=queueing, overhead_s=0.5)
    assert [(d.time, d.server) for d in result.decisions] == [(0, 0), (0.25, 1), (1, 1), (1.5, 0), (2, 0)]
    # request 1 is evicted at 5 and waits there, at the tick 6, at 8 (completion) and at the tick 9, the last
    script = scripted([(1, 2)] + [(1, 0)] * 9)
    queueing = Queueing(tick_s=3)
    result = simulate(script, [0, 0], [8, 8], prompt=5, predicted=[2, 2], etas=(20, 20), queueing=queueing)
    assert times(result) == [0, 5, 6, 8, 9]


# ---- simultaneous events: who is asked, when, and what waits then


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


def test_eviction_and_completion_of_another_server() -> None:
    # Server 0: request 0 (5 tokens) to 5.  Server 1: 1 and 2, request 2 leaves at 5.
    # One question at 5, with request 2.
    result = simulate(
        scripted([(1, 1), (1, 2), (1, 2)]), [0, 0, 0], [5, 8, 8], prompt=5, predicted=[2] * 3, etas=(20, 20)
    )
    assert members(result) == [(0, 0, (0,)), (0, 1, (1, 2)), (5, 0, (2,))]
    assert times(result) == [0, 0, 5]


def test_eviction_and_completion_of_its_own_server() -> None:
    # at 5 request 1 leaves and the batch ends: it is asked once and sees request 1
    views, decide = watch(static(2))
    simulate(decide, [0, 0], [2, 8], **OVERFLOW)
    assert [(view.now, view.head_number, view.last.completed_batches) for view in views] == [
        (0, (0, 0), 0),
        (5, (1, 1), 1),
    ]


def test_evictions_of_two_servers() -> None:
    # pairs 0, 1 and 2, 3 overflow at 5 on servers 0 and 1; server 2 is asked once and takes 1 and 3 together
    result = simulate(static(2), [0] * 4, [8] * 4, prompt=5, predicted=[2] * 4, etas=(20, 20, 30))
    assert members(result)[2] == (5, 2, (1, 3))


def simultaneous(kind: str) -> tuple[list[float], list[int], dict[str, object]]:
    """Server 0 works from 0 such that an event of this kind happens at 5, while server 1 is free."""
    if kind == "completion":
        return [0], [5], {"prompt": [5], "predicted": [2]}
    return [0, 0], [8, 8], {"prompt": [5, 5], "predicted": [2, 2]}


@pytest.mark.parametrize("kind", ["completion", "eviction"])
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


@pytest.mark.parametrize("kind", ["completion", "eviction"])
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


# ---- decisions


def test_size_is_clipped_to_max_batch() -> None:
    result = simulate(static(5), [0, 0, 0], [1, 1, 1], max_batch=2)
    assert members(result) == [(0, 0, (0, 1)), (1, 0, (2,))]
    assert [d.size for d in result.decisions] == [5, 5]


def test_empty_bin_means_any_and_is_counted() -> None:
    # bin 1 is empty: any (2); bin 0 is then fed by no batch
    result = simulate(scripted([(1, 2), (0, 2)]), [0, 0, 5], [3, 3, 3], queueing=Queueing(edges=(10,)))
    assert [(batch.bin, batch.members) for batch in result.batches] == [(2, (0, 1)), (0, (2,))]
    assert result.empty_choices == 1
    assert [d.bin for d in result.decisions] == [1, 0]
    assert [len(trace) for trace in result.trace] == [1, 0, 2]


def test_waiting_at_an_empty_bin_is_not_counted() -> None:
    result = simulate(scripted([(1, 0)]), [0, 1], [1, 1], queueing=Queueing(edges=(10,)))
    assert result.empty_choices == 0
    assert members(result) == [(1, 0, (0, 1))]


@pytest.mark.parametrize("decision", [(2, 1), (-1, 1), (0, -1), (2, 0)])
def test_impossible_decisions_are_errors(decision: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        simulate(scripted([decision]), [0], [1])


def test_bins_by_prediction() -> None:
    # edges 10, 10, 20: bins 0 (below 10), 1 (empty), 2, 3
    views, decide = watch(static(9))
    simulate(decide, [0] * 6, [1] * 6, predicted=[1, 9, 10, 19, 20, 500], queueing=Queueing(edges=(10, 10, 20)))
    assert views[0].queues == ((0, 1), (), (2, 3), (4, 5), (0, 1, 2, 3, 4, 5))
    assert views[0].lengths == (2, 0, 2, 2, 6)
    assert views[0].head_number == (0, -1, 2, 4, 0)


def test_an_evicted_request_keeps_its_bin() -> None:
    # predicted 2 (bin 0); evicted at 5 with prediction 6, beyond the edge 4: still bin 0
    views, decide = watch(static(2))
    simulate(decide, [0, 0], [8, 8], queueing=Queueing(edges=(4,)), **OVERFLOW)
    assert views[1].queues == ((1,), (), (1,))


@pytest.mark.parametrize(
    ("discipline", "slo", "max_wait", "key"),
    [
        # arrival 2, prompt 4, output 7, predicted 3
        ("fifo", SLO(e2e_s=30), 4, 2),
        ("sjf", SLO(e2e_s=30), 4, 3),
        ("oracle-sjf", SLO(e2e_s=30), 4, 7),
        ("edf", SLO(e2e_s=30, ttft_s=1), 4, 3),
        ("edf", SLO(ttft_s=1), 4, 3),
        ("edf", SLO(tpot_s=1), 4, INF),
        # RICH alone: prefill 0.25 * 4 + 0.125 * 16 = 3; steps 1.5 + 0.125 * (5, 6) = 2.125, 2.25: 7.375
        ("slack", SLO(e2e_s=30), 4, 32 - 7.375),
        # 2 / 4 - (1 - 3 / 64)
        ("priority", SLO(e2e_s=30), 4, 0.5 - 61 / 64),
        ("priority", SLO(e2e_s=30), INF, 2 - 61 / 64),
    ],
)
def test_keys_of_the_disciplines(discipline: str, slo: SLO, max_wait: float, key: float) -> None:
    queueing = Queueing(discipline=discipline, max_wait_s=max_wait)
    config = SimConfig((Server(RICH),), queueing, slos=(slo,))
    assert discipline_key(config, 2.0, 4, 7, 3, 0) == key


def test_a_long_request_has_no_bonus_in_priority_order() -> None:
    config = SimConfig((Server(RICH),), Queueing(discipline="priority", max_wait_s=4.0))
    assert discipline_key(config, 2.0, 4, 7, 100, 0) == 0.5


def test_service_alone_in_batch_length_form() -> None:
    assert service_alone_s(LENGTH, 4, 3) == 1 + 0.5 * 3
    assert service_alone_s(TOTAL, 4, 3) == 1 + 0.5 * 7


def test_sjf_order_with_ties_by_number() -> None:
    result = simulate(static(1), [0] * 4, [1] * 4, predicted=[3, 1, 3, 1], queueing=Queueing(discipline="sjf"))
    assert [batch.members for batch in result.batches] == [(1,), (3,), (0,), (2,)]


def test_token_limit_of_a_batch() -> None:
    # 3 + 3 <= 6, the third would be 9; then 10 > 6 enters as the first member, alone
    limit = Queueing(max_tokens=6)
    result = simulate(static(9), [0] * 4, [1] * 4, predicted=[3, 3, 3, 10], queueing=limit)
    assert [batch.members for batch in result.batches] == [(0, 1), (2,), (3,)]


def test_who_waited_too_long_ignores_the_token_limit() -> None:
    # Request 0 to 4.  At 4 request 1 (from 1) and request 2 (from 2) are 2 s old or more, request 3 (from 3) is not:
    # 1 enters first, 2 ignores the limit, 3 does not.
    limit = Queueing(max_tokens=6, max_wait_s=2)
    result = simulate(static(9), [0, 1, 2, 3], [4, 1, 1, 1], predicted=[5, 5, 5, 5], queueing=limit)
    assert [batch.members for batch in result.batches] == [(0,), (1, 2), (3,)]


def test_what_a_server_remembers_of_its_last_batch() -> None:
    # first batch: 0 and 1 from 0 to 3 with overhead 1: S = 2, 2 + 2 * 2 = 6 of 12 tokens; the oldest took 3 s
    views, decide = watch(static(2))
    simulate(decide, [0, 0, 1], [2, 1, 1], predicted=[2, 2, 2], etas=(12,), overhead_s=1)
    first, second = views[0].last, views[1].last
    assert (first.completed_batches, first.size, first.service_s) == (0, 0, 0)
    assert (second.completed_batches, second.size, second.service_s) == (1, 2, 3)
    assert (second.max_e2e_s, second.peak_kv_share) == (3, 0.5)


# ---- horizon


def test_the_horizon_cuts_the_run_off() -> None:
    # at 3: request 0 (5 tokens) in service, request 1 waiting (from 1), request 2 not there yet
    result = simulate(static(1), [0, 1, 10], [5, 1, 1], horizon_s=3)
    equal(result.status, [IN_SERVICE, WAITING, WAITING])
    assert result.unfinished == 3
    equal(result.first_token, [1, NAN, NAN])
    equal(result.last_token, [NAN, NAN, NAN])
    assert result.in_system_integral == 3 + 2
    assert result.end == 3
    equal([batch.end for batch in result.batches], [NAN])


def test_what_happens_at_the_horizon_still_happens() -> None:
    result = simulate(static(1), [0, 1], [5, 1], horizon_s=5)
    equal(result.completion, [5, NAN])
    equal(result.dispatch, [0, 5])


# ---- controllers


def test_before_the_first_completion() -> None:
    # memory: max_batch = 128; SLA: floor((1 + 128) / 2)
    views, decide = watch(dynamic())
    simulate(decide, [0], [1])
    assert (views[0].targets, views[0].low, views[0].high) == ((64, 64), (1, 1), (128, 128))


def test_controllers_are_fed_by_the_batches_of_their_choice() -> None:
    # bin 0: request 0 (1 + 2 tokens); bin 1: request 1 (1 + 20); any: request 2 (1 + 4) of bin 0
    script = scripted([(0, 1), (1, 1), (2, 1)])
    result = simulate(script, [0, 0, 50], [2, 20, 4], queueing=Queueing(edges=(10,)))
    assert [state.mu for state in result.trace[0]] == [3]
    assert [state.mu for state in result.trace[1]] == [21]
    # 3, 0.8 * 3 + 0.2 * 21 = 6.6, 0.8 * 6.6 + 0.2 * 5 = 6.28
    np.testing.assert_allclose([state.mu for state in result.trace[2]], [3, 6.6, 6.28], rtol=1e-15)
    assert [state.time for state in result.trace[2]] == [2, 22, 54]
    assert result.controllers[0].tau == 1


def test_controllers_count_only_what_completed_in_the_batch() -> None:
    # request 1 is evicted from the first batch: mu = 5 + 8 from request 0 alone; then 5 + 8 again.
    # tau: 7 steps of 1 s; bbar: 4 steps with two and 3 with one = 11 / 7; then 2 steps with one
    result = simulate(static(2), [0, 0], [8, 8], **OVERFLOW)
    first, second = result.trace[1]
    assert (first.mu, first.tau, first.bbar) == (13, 1, 11 / 7)
    assert second.bbar == pytest.approx(0.8 * 11 / 7 + 0.2, rel=1e-15)


THETA_ONE = Controller(eps_memory=1 - NormalDist().cdf(1))


def test_algorithm_1() -> None:
    # Lengths 6 and 10: mu 8, s2 = 68 - 64 = 4.  theta 1, eta 80: sqrt(b) = (sqrt(4 + 32 * 80) - 2) / 16 = 3.0398,
    # b = 9.24007: 9 requests; L0 = 80 - 8 * 9.24007 = 6.0795
    controller = MemoryController(THETA_ONE, 80, 128, l0_every=2)
    assert controller.target == 128
    controller.update([6, 10], 1)
    assert controller.target == 9
    assert controller.l0 == pytest.approx(6.0795, abs=1e-4)
    # Lengths 1 and 31: mu = 0.8 * 8 + 0.2 * 16 = 9.6; L0 kept: 73.921 / 9.6 = 7.70 (refreshed it would be 6.33)
    controller.update([1, 31], 1)
    assert controller.target == 7
    # again: mu = 10.88, m2 = 0.8 * 150.6 + 0.2 * 481 = 216.68, s2 = 98.31: refreshed, sqrt(b) = 2.2940, b = 5.26
    # (kept it would be 6.79)
    controller.update([1, 31], 1)
    assert controller.target == 5
    assert controller.mu == pytest.approx(10.88, rel=1e-15)


def test_algorithm_1_waits_for_decode_work() -> None:
    # theta 0: b = eta / mu.  A batch without decode step changes mu (to 10) and not the target; the next with steps
    # recomputes: mu = 0.8 * 10 + 0.2 * 20 = 12, 100 / 12 = 8.33.  Then another without: mu = 13.6, target kept.
    controller = MemoryController(Controller(eps_memory=0.5), 100, 128)
    controller.update([10], 0)
    assert (controller.mu, controller.target) == (10, 128)
    controller.update([20], 3)
    assert (controller.mu, controller.target) == (12, 8)
    controller.update([20], 0)
    assert (controller.mu, controller.target) == (pytest.approx(13.6), 8)


def test_algorithm_1_is_clipped() -> None:
    low = MemoryController(Controller(eps_memory=0.5, b_min=3), 100, 128)
    low.update([200], 1)
    assert low.target == 3
    high = MemoryController(Controller(eps_memory=0.5), 10_000, 128)
    high.update([3], 1)
    assert high.target == 128
    unlimited = MemoryController(Controller(), INF, 128)
    unlimited.update([1000], 1)
    assert (unlimited.target, unlimited.mu) == (128, 1000)


def test_memory_target_is_of_the_smallest_server() -> None:
    # theta 0, mu = 1 + 3 = 4: 18 / 4 = 4.5; the larger server would give 7.5
    result = simulate(static(1), [0], [3], etas=(30, 18), controller=Controller(eps_memory=0.5))
    assert result.controllers[1].memory_target == 4
    assert result.controllers[1].target == 4
    assert result.controllers[0].memory_target == 128


def sla(*, ema: float = 1.0, max_batch: int = 128, b_min: int = 1, tbt_s: float = 1.0) -> SlaController:
    """D = 1, eps = 1/4, alpha = 16, delta = 4."""
    return SlaController(Controller(eps_s=0.25, ema=ema, b_min=b_min), tbt_s, max_batch)


def feed(controller: SlaController, tau: float, batch: float, steps: int = 4) -> tuple[float, float, int]:
    """One batch with this time between tokens and size."""
    controller.update(tau * steps, steps, int(batch * steps))
    return controller.low, controller.high, controller.target


def test_algorithm_2_case_by_case() -> None:
    controller = sla()
    assert (controller.low, controller.high, controller.target) == (1, 128, 64)
    # too slow (2 > 1.25): high = max(64, 1 + 16), low = max(1 - 4, 1)
    assert feed(controller, 2, 64) == (1, 64, 32)
    # too slow: high = max(32, 17)
    assert feed(controller, 1.5, 32) == (1, 32, 16)
    # fast (0.5 < 0.75): low = min(16, 32 - 16), high = 32 + 4
    assert feed(controller, 0.5, 16) == (16, 36, 26)
    # in the band: high = 26 + 8, low = 26 - 8
    assert feed(controller, 1, 26) == (18, 34, 26)
    # the edges belong to the band
    assert feed(controller, 1.25, 26) == (18, 34, 26)
    assert feed(controller, 0.75, 26) == (18, 34, 26)
    # fast with a batch that was not full: low = min(3, 34 - 16), high = 38, floor(41 / 2)
    assert feed(controller, 0.5, 3) == (3, 38, 20)
    # too slow: high = max(20, 3 + 16), low = max(3 - 4, 1)
    assert feed(controller, 2, 20) == (1, 20, 10)
    # too slow, already small: high = max(2, 1 + 16), floor(18 / 2)
    assert feed(controller, 2, 2) == (1, 17, 9)
    # from the band at 30, too slow: high = max(30, 22 + 16), low = 22 - 4
    assert feed(controller, 1, 30) == (22, 38, 30)
    assert feed(controller, 2, 30) == (18, 38, 28)


def test_algorithm_2_at_its_limits() -> None:
    controller = sla()
    # fast at the top: low = min(127, 128 - 16), high stays 128
    assert feed(controller, 0.5, 127) == (112, 128, 120)
    # band at the top: high = min(127 + 8, 128), low = 119, floor(247 / 2)
    assert feed(controller, 1, 127) == (119, 128, 123)
    # band at the bottom: high = 11, low = max(3 - 8, 1)
    assert feed(controller, 1, 3) == (1, 11, 6)
    # fast from there: low = min(3, 11 - 16) may go under b_min, high = 15
    assert feed(controller, 0.5, 3) == (-5, 15, 5)
    narrow = sla(max_batch=4, b_min=2)
    # fast: low = min(2, 4 - 16), high = 4: the middle -4 is clipped to b_min
    assert feed(narrow, 0.5, 2) == (-12, 4, 2)
    # band: (2, 4); too slow: high = max(2, 2 + 16), low = 2: the middle 10 is clipped to max_batch
    assert feed(narrow, 1, 2) == (2, 4, 3)
    assert feed(narrow, 2, 2) == (2, 18, 4)


def test_algorithm_2_averages() -> None:
    controller = sla(ema=0.2)
    feed(controller, 2, 64)
    assert (controller.tau, controller.bbar) == (2, 64)
    # 0.8 * 2 + 0.2 * 1, 0.8 * 64 + 0.2 * 4; still too slow: high = max(52, 17)
    low, high, _ = feed(controller, 1, 4)
    assert controller.tau == pytest.approx(1.8, rel=1e-15)
    assert (low, high) == (1, pytest.approx(52, rel=1e-15))


def test_algorithm_2_skips_a_batch_without_decode_step() -> None:
    controller = sla()
    controller.update(0.0, 0, 0)
    assert math.isnan(controller.tau)
    assert (controller.low, controller.high) == (1, 128)
    result = simulate(static(2), [0, 0, 5], [1, 1, 2])
    assert [math.isnan(state.tau) for state in result.trace[1]] == [True, False]
    assert result.trace[1][0].mu == 2


def closed_loop(controller: SlaController, batch: int, tau: Callable[[int], float], batches: int) -> list[int]:
    """Serve batches as large as the controller says, the first of a given size; the targets."""
    targets = []
    for _ in range(batches):
        controller.update(8 * tau(batch), 8, 8 * batch)
        batch = controller.target
        targets.append(batch)
    return targets


def test_inside_the_band_a_small_batch_reproduces_itself() -> None:
    # D = 1, eps = 1/4; tau(b) = 0.9 + b / 1000, in the band for every b <= 128 (not refused here: that is the point).
    # From a batch of one: (1 + 9) / 2 = 5, (1 + 13) / 2 = 7, (1 + 15) / 2 = 8, floor((1 + 16) / 2) = 8, for ever
    assert closed_loop(sla(), 1, lambda batch: 0.9 + batch / 1000, 6) == [5, 7, 8, 8, 8, 8]
    assert closed_loop(sla(ema=0.2), 1, lambda batch: 0.9 + batch / 1000, 500)[-1] <= 9


@pytest.mark.parametrize("ema", [1.0, 0.2])
def test_outside_the_band_it_recovers(ema: float) -> None:
    # D = 2: tau stays below D - eps = 1.75.  Pushed down by slow batches, then batches as large as the target.
    controller = sla(ema=ema, tbt_s=2.0)
    pushed = closed_loop(controller, 1, lambda batch: 9.0, 30)
    assert pushed[-1] == 9  # low 1, high max(bbar, 17)
    targets = closed_loop(controller, 1, lambda batch: 0.9 + batch / 1000, 300)
    # the end: low = min(bbar, 128 - 16) = 112, high = 128
    assert targets[-1] == 120
    if ema == 1.0:
        # low = min(1, 17 - 16), high = 21: 11; low = min(11, 5), high = 25: 15; low = 9, high = 29: 19
        assert targets[:3] == [11, 15, 19]


def test_a_target_below_what_one_request_needs_is_replaced() -> None:
    # RICH, a batch of one: 1 + 0.5 = 1.5 s; UNIT: 1 s.  Safe from 1.5 + 0.25.
    servers = (Server(UNIT), Server(RICH))
    unsafe = SimConfig(servers, controller=Controller(tbt_s=1.5, eps_s=0.25))
    with pytest.warns(UserWarning, match=r"1\.5 s.*1\.75 s"):
        assert safe_tbt_s(unsafe) == 1.75
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert safe_tbt_s(SimConfig(servers, controller=Controller(tbt_s=1.75, eps_s=0.25))) == 1.75


# ---- policies


def test_multibin_round_robin() -> None:
    # bins 0, 1, 2 by predicted 1, 10, 20: 0, then 1, then 2, then 0 again (1 is empty by then), then 2
    predicted = [1, 10, 20, 1, 20]
    result = simulate(multibin(), [0] * 5, [1] * 5, predicted=predicted, queueing=Queueing(edges=(10, 20)), max_batch=1)
    assert [batch.members for batch in result.batches] == [(0,), (1,), (2,), (3,), (4,)]
    assert [batch.bin for batch in result.batches] == [0, 1, 2, 0, 2]


def test_multibin_longest_and_oldest() -> None:
    predicted = [10, 1, 20, 20, 1]
    options = {"predicted": predicted, "queueing": Queueing(edges=(10, 20))}
    longest = simulate(multibin("longest"), [0] * 5, [1] * 5, **options)
    assert [batch.members for batch in longest.batches] == [(1, 4), (2, 3), (0,)]
    oldest = simulate(multibin("oldest"), [0] * 5, [1] * 5, **options)
    assert [batch.members for batch in oldest.batches] == [(0,), (1, 4), (2, 3)]


def test_dynamic_and_multibin_ask_for_their_target() -> None:
    # max_batch 4: SLA target floor((1 + 4) / 2) = 2
    for policy in (dynamic(), multibin()):
        result = simulate(policy, [0] * 3, [1] * 3, max_batch=4)
        assert result.decisions[0].size == 2
        assert members(result)[0] == (0, 0, (0, 1))


def test_multibin_fixed_serves_batches_in_the_order_in_which_they_were_formed() -> None:
    # Long 0, 1 fill bin 1 at 0 and run to 10.  Short 2 (from 1) gets its mate 5 at 4; long 3 and 4 are a batch from 3:
    # they go first, at 10.  At 12 short 6 and long 7 are left and nothing can come: flushed, oldest first.
    arrival = [0, 0, 1, 2, 3, 4, 5, 6]
    predicted = [20, 20, 1, 20, 20, 1, 1, 20]
    result = simulate(
        multibin_fixed(2), arrival, [10, 10, 1, 1, 1, 1, 1, 1], predicted=predicted, queueing=Queueing(edges=(10,))
    )
    assert members(result) == [(0, 0, (0, 1)), (10, 0, (3, 4)), (11, 0, (2, 5)), (12, 0, (6,)), (13, 0, (7,))]


def test_multibin_fixed_waits_for_a_full_batch() -> None:
    result = simulate(multibin_fixed(2), [0, 4], [1, 1])
    assert members(result) == [(4, 0, (0, 1))]


def test_timeout_launches_a_full_batch_at_once() -> None:
    result = simulate(timeout(2, 5), [0, 1, 9], [1, 1, 1], queueing=Queueing(hold_s=5))
    assert members(result) == [(1, 0, (0, 1)), (14, 0, (2,))]


# ---- what holds always


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


def random_config(**options: object) -> SimConfig:
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
        # every launch of a request ends in completion, drop or eviction, or is still in service
        launches = np.bincount([m for batch in result.batches for m in batch.members], minlength=len(requests))
        ended = np.isin(result.status, (COMPLETED, DROPPED, IN_SERVICE))
        equal(launches, result.evictions + ended)
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
    assert result.evictions.sum() > 0
    assert result.empty_choices > 0
    assert any(decision.size == 0 for decision in result.decisions)
    assert long.count(DROPPED) == 1


def test_one_queue_and_many_bins_read_through_any_are_the_same() -> None:
    requests = random_requests(1)
    servers = (Server(PROFILE, 900.0), Server(PROFILE, 900.0))
    for discipline in ("fifo", "sjf", "priority"):
        one, many, single_bin = (
            ReferenceSimulator(
                SimConfig(servers, Queueing(edges, discipline)), requests, lambda view, b=b: (b, 6), tbt_s=0.05
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
