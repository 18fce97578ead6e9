"""The oracle of the engine `continuous` against schedules worked out by hand, and against laws.

UNIT takes 1 s for every iteration, whatever is in it; RICH has coefficients of which every duration is exact.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmsched_env.config import Controller, Queueing, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles import reference
from tests.oracles.continuous_reference.cases import Case, cases, chooser, dice, make_case, make_script
from tests.oracles.continuous_reference.durations import noise_factor
from tests.oracles.reference import COMPLETED, DROPPED, REJECTED, MemoryController, SlaController
from tests.oracles.reference_continuous import (
    ContinuousResult,
    ContinuousSimulator,
    Decide,
    Options,
    View,
    cap,
    scripted,
)

INF = math.inf
NAN = math.nan


def split(**coefficients: float) -> Profile:
    """A profile of the form `split`, zero where nothing is said."""
    return Profile("split", "split", {"d0": 0, "d1": 0, "d2": 0, "p0": 0, "p1": 0, "p2": 0} | coefficients, INF)


UNIT = split(d0=1000, p0=1000)
RICH = split(d0=1000, d1=500, d2=125, p0=2000, p1=250, p2=125)
TOKENS = Profile("tokens", "tokens", {"w0": 1000, "e0": 500, "w1": 250, "a_p": 125, "a_d": 125}, INF)
WHOLE = Options(token_budget=INF)
PROMPT = Options(admission="prompt", token_budget=INF)


def run(
    decide: Decide,
    arrival: Sequence[float],
    output: Sequence[int],
    *,
    prompt: int | Sequence[int] = 1,
    predicted: Sequence[int] | None = None,
    etas: Sequence[float] = (INF,),
    profile: Profile = UNIT,
    options: Options = WHOLE,
    tbt_s: float = 0.05,
    **config: Any,
) -> ContinuousResult:
    """Run a policy on a few requests; one server per entry of ``etas``."""
    prompts = [prompt] * len(arrival) if isinstance(prompt, int) else prompt
    requests = Requests.checked(arrival, prompts, output, predicted)
    simulated = SimConfig(tuple(Server(profile, eta) for eta in etas), **config)
    return ContinuousSimulator(simulated, requests, decide, options, tbt_s=tbt_s).run()


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


def asked(result: ContinuousResult) -> list[tuple[float, int, tuple[int, ...]]]:
    """Every decision as (time, server, who was admitted)."""
    return [(decision.time, decision.server, decision.admitted) for decision in result.decisions]


# ---- iterations


def test_one_request() -> None:
    # prefill T=4, Q=16: max(2, 1 + 2) = 3; a step with x=5: 1.5 + 0.625; with x=6: 1.5 + 0.75
    result = run(cap(8), [1], [3], prompt=4, profile=RICH)
    assert (result.dispatch[0], result.first_token[0]) == (1, 4)
    assert result.last_token[0] == result.completion[0] == 8.375
    equal(result.gaps, [2.125, 2.25])
    assert result.busy == [7.375]
    assert result.in_system_integral == 7.375


def test_the_form_tokens() -> None:
    # prefill max(1, .5 + .25 * 4) + .125 * 16 = 3.5; alone with x=5: max(1, .75) + .625 = 1.625
    # with a chunk of 2: max(1, .5 + .25 * 3) + .125 * 5 + .125 * 4 = 2.375
    alone = run(cap(8), [0], [2], prompt=4, profile=TOKENS)
    equal((alone.first_token[0], alone.completion[0]), (3.5, 5.125))
    joined = run(cap(8), [0, 1], [2, 1], prompt=[4, 2], profile=TOKENS)
    equal(joined.completion, [5.875, 5.875])


def test_overhead_belongs_to_every_iteration() -> None:
    result = run(cap(8), [0], [3], overhead_s=0.5)
    assert (result.dispatch[0], result.first_token[0], result.completion[0]) == (0, 1.5, 4.5)


def test_a_second_request_joins_in_chunks() -> None:
    # 0 prefills to 3; then it decodes (x=5) with the chunk of 1 (T=2, Q=4): 2.125 + .5 + .5 -> 6.125;
    # then both with KV = 6 + 3: 2 + 1.125 -> 9.25
    result = run(cap(8), [0, 1], [3, 2], prompt=[4, 2], profile=RICH)
    equal(result.dispatch, [0, 3])
    equal(result.first_token, [3, 6.125])
    equal(result.completion, [9.25, 9.25])
    equal(sorted(result.gaps), [3.125, 3.125, 3.125])
    assert result.segments == 3


def test_a_second_request_stalls_the_first() -> None:
    # 0 prefills to 3; 1 prefills alone: max(2, .5 + .5) -> 5; both with KV = 5 + 3: 3 -> 8; 0 alone (x=6): 2.25
    result = run(cap(8), [0, 1], [3, 2], prompt=[4, 2], profile=RICH, options=Options(prefill="first"))
    equal(result.first_token, [3, 5])
    equal(result.completion, [10.25, 8])
    equal(sorted(result.gaps), [2.25, 3, 5])


def test_the_budget_is_split_in_order_of_admission() -> None:
    # at 0 the 6 tokens of request 0 leave no free slot (6 >= 4): 1 is not even asked about.  Chunk of 4: max(2, 1 + 2)
    # at 3: 0 takes 2 (Q=36-16), 1 takes 2 (Q=4): max(2, 1 + 3) -> 7; at 7: 1 takes its last (Q=9-4): max(2, .875) -> 9
    result = run(cap(8), [0, 0], [1, 1], prompt=[6, 3], profile=RICH, options=Options(token_budget=4), max_batch=4)
    assert asked(result) == [(0, 0, (0,)), (3, 0, (1,))]
    equal(result.first_token, [7, 9])
    assert [row[2:] for row in result.iterations] == [(0, 4), (0, 4), (0, 1)]


def test_prefill_first_takes_no_more_than_the_budget_beside_others() -> None:
    # one of 10 tokens alone, whatever the budget; 3 + 3 fit together, a third does not
    options = Options(prefill="first", token_budget=6)
    result = run(cap(8), [0, 0, 0, 0], [2, 2, 2, 2], prompt=[10, 3, 3, 3], options=options)
    assert [row[2:] for row in result.iterations] == [(0, 10), (0, 6), (0, 3), (4, 0)]
    assert asked(result) == [(0, 0, (0,)), (0, 0, ()), (1, 0, (1, 2)), (1, 0, ()), (2, 0, (3,))]


def test_completions_are_at_the_boundary_of_each() -> None:
    result = run(cap(8), [0, 0, 0], [1, 4, 2])
    equal(result.completion, [1, 4, 2])
    assert result.segments == 3


# ---- who is asked, and when


def test_asked_at_the_first_boundary_after_an_arrival() -> None:
    result = run(cap(8), [0, 2.5, 7], [6, 1, 1])
    assert asked(result) == [(0, 0, (0,)), (3, 0, (1,)), (7, 0, (2,))]
    equal(result.completion, [6, 4, 8])


def test_a_size_at_the_present_count_admits_nobody_and_parks() -> None:
    # the next event after the question at 1 is the completion at 3
    result = run(cap(1), [0, 0], [3, 1])
    assert asked(result) == [(0, 0, (0,)), (0, 0, ()), (1, 0, ()), (3, 0, (1,))]


def test_no_question_without_a_free_slot() -> None:
    result = run(cap(8), [0, 0, 0], [3, 1, 1], max_batch=1)
    assert asked(result) == [(0, 0, (0,)), (3, 0, (1,)), (4, 0, (2,))]


def test_wait_parks_one_server_only() -> None:
    # server 0 waits, server 1 takes the request; with nothing else to come wait means (any, max_batch)
    result = run(scripted([(1, 0), (1, 8)]), [0, 9], [2, 1], etas=(INF, INF))
    assert asked(result) == [(0, 0, ()), (0, 1, (0,)), (9, 0, (1,))]
    assert result.waits == 1


def test_an_empty_bin_means_any() -> None:
    result = run(scripted([(1, 4)]), [0], [1], queueing=Queueing((10,)))
    assert result.empty_choices == 1
    equal(result.dispatch, [0])


def test_servers_see_completions_of_the_same_instant() -> None:
    # at 2 request 1 completes on server 1; server 0 has a boundary then, is asked (before server 1) and takes 2
    result = run(cap(1), [0, 0, 0.5], [5, 2, 1], etas=(INF, INF))
    again = run(lambda view: (1, 2 if view.now >= 2 else 1), [0, 0, 0.5], [5, 2, 1], etas=(INF, INF))
    equal(result.dispatch, [0, 0, 2])
    assert (2, 0, ()) in asked(result)
    assert (2, 1, (2,)) in asked(result)
    assert asked(again)[-1] == (2, 0, (2,))


def test_a_tick_asks_busy_servers_too() -> None:
    policy = lambda view: (1, 8 if view.at_tick else 0)  # noqa: E731
    result = run(policy, [1, 1], [9, 1], queueing=Queueing(tick_s=4.0))
    equal(result.dispatch, [4, 4])
    held = run(
        lambda view: (1, 8 if view.now >= 3.5 or view.running == 0 else 0),
        [1, 1.25],
        [9, 1],
        queueing=Queueing(hold_s=2.5),
    )
    equal(held.dispatch, [1, 4])  # the timer comes at 3.75, the boundary after it at 4


# ---- memory


def test_the_watermark_keeps_a_hundredth_free() -> None:
    # 100 blocks: 90 and 9 fit beside the watermark of 1, 90 and 10 do not
    fits = run(cap(8), [0, 0], [1, 1], prompt=[1439, 143], etas=(1600,), options=PROMPT)
    waits = run(cap(8), [0, 0], [1, 1], prompt=[1439, 144], etas=(1600,), options=PROMPT)
    equal(fits.dispatch, [0, 0])
    equal(waits.dispatch, [0, 1])
    # of 10 blocks it is one whole block
    few = run(cap(8), [0, 0, 0], [1, 1, 1], prompt=[127, 8, 8], etas=(160,), options=PROMPT)
    equal(few.dispatch, [0, 0, 1])
    alone = run(cap(8), [0], [1], prompt=1599, etas=(1600,), options=PROMPT)
    equal(alone.dispatch, [0])


def test_admission_by_prediction() -> None:
    # 10 blocks: 2 and 12 + 20 tokens reserve 2 and 2 blocks; 0 reserves 7
    reserve: dict[str, Any] = {"prompt": [90, 12, 12], "predicted": [20, 20, 20], "etas": (160,)}
    result = run(cap(8), [0, 0, 0], [3, 3, 3], **reserve)
    equal(result.dispatch, [0, 0, 3])
    equal(run(cap(8), [0, 0, 0], [3, 3, 3], options=PROMPT, **reserve).dispatch, [0, 0, 0])


def test_preemption_and_recompute() -> None:
    # 100 blocks, 90 + 9 held at 0; at 1 the next tokens need 91 + 10: the newest leaves with one token.
    # It comes back at 3, when 0 is done, prefills 144 tokens to 4 (its second token) and ends at 5.
    views, policy = watch(cap(8))
    result = run(policy, [0, 0], [3, 3], prompt=[1439, 143], etas=(1600,), options=PROMPT)
    equal(result.evictions, [0, 1])
    equal(result.first_token, [1, 1])
    equal(result.completion, [3, 5])
    equal(result.dispatch, [0, 0])
    equal(result.generated, [0, 1])
    equal(result.predicted, [3, 3])
    equal(sorted(result.gaps), [1, 1, 1, 3])
    assert [row[2:] for row in result.iterations] == [(0, 1582), (1, 0), (1, 0), (0, 144), (1, 0)]
    assert [view.now for view in views] == [0, 1, 3]
    assert result.peak_blocks == [99]


def test_the_prediction_is_raised_only_above_what_was_seen() -> None:
    wrong = run(cap(8), [0, 0], [3, 3], prompt=[1439, 143], predicted=[3, 1], etas=(1600,), options=PROMPT)
    equal(wrong.predicted, [3, 2])


def test_who_is_alone_is_dropped() -> None:
    # 2 blocks; at 16 it has 16 + 16 tokens and the next does not fit
    result = run(cap(8), [0, 0], [40, 1], prompt=16, predicted=[1, 1], etas=(32,))
    equal(result.status, [DROPPED, COMPLETED])
    equal(result.completion, [NAN, 17])
    assert result.end == 17


def test_capacity_counts_whole_blocks() -> None:
    # 47 tokens are 2 blocks, 32 tokens
    result = run(cap(8), [0, 0], [1, 1], prompt=[32, 31], etas=(47,))
    equal(result.status, [REJECTED, COMPLETED])


def test_a_half_prefilled_member_leaves_and_stands_before_the_others() -> None:
    # 5 blocks, budget 2.  0 (31 tokens) is prefilled at 16, together with the first token of 1.  At 32 it has 48 tokens
    # and needs a fourth block beside the 2 of request 1, which has 17 of its 31 and no output yet.
    views, policy = watch(cap(8))
    result = run(
        policy,
        [0, 0, 20],
        [40, 9, 1],
        prompt=[31, 31, 1],
        predicted=[1, 9, 1],  # the last would stand before 1 by its key
        etas=(80,),
        options=Options(admission="prompt", token_budget=2),
        max_batch=2,
        queueing=Queueing(discipline="sjf"),
    )
    equal(result.dispatch[:2], [0, 15])
    assert sum(row[3] for row in result.iterations if row[0] <= 32) == 31 + 17
    at_32 = [view for view in views if view.now == 32]
    assert [view.head_number for view in at_32] == [(1, 1)]
    assert result.evictions[1] >= 1
    assert result.first_token[1] > 40
    equal(result.status, [COMPLETED] * 3)


# ---- eviction by choice

SRPT = Options(token_budget=INF, srpt=True)


def test_srpt_evicts_who_lacks_most() -> None:
    # at 2 request 0 lacks 8, the head 3: out it goes; it comes back at 5 and needs 8 more
    result = run(cap(1), [0, 1.5], [10, 3], options=SRPT, max_batch=2)
    assert [(d.time, d.admitted, d.evicted) for d in result.decisions] == [
        (0, (0,), ()),
        (2, (1,), (0,)),
        (2, (), ()),
        (3, (), ()),
        (5, (0,), ()),
    ]
    equal(result.completion, [13, 5])
    equal(result.generated, [2, 0])


def test_srpt_spares_equals_and_is_asked_when_full() -> None:
    equal(run(cap(1), [0, 1.5], [10, 8], options=SRPT, max_batch=2).evictions, [0, 0])
    full = run(cap(1), [0, 1.5], [10, 3], options=SRPT, max_batch=1)
    equal(full.evictions, [1, 0])
    equal(full.completion, [13, 5])


def test_srpt_evicts_for_memory_but_not_for_who_cannot_come_anyway() -> None:
    # 10 blocks; at 2 request 0 lacks 8 and needs 9 of them
    memory: dict[str, Any] = {
        "prompt": [140, 30],
        "etas": (160,),
        "options": Options("prompt", token_budget=INF, srpt=True),
    }
    equal(run(cap(8), [0, 1.5], [10, 3], **memory).evictions, [1, 0])
    # server 0 cannot hold the head: its member stays, and the head goes to server 1 at 2
    small = run(cap(1), [0, 0.5, 1], [10, 10, 3], prompt=[1, 1, 40], etas=(32, 64), options=SRPT, max_batch=2)
    equal(small.evictions, [0, 1, 0])
    equal(small.dispatch, [0, 0.5, 1.5])


def test_srpt_puts_the_returned_among_the_others() -> None:
    result = run(cap(1), [0, 1.5, 1.5], [10, 3, 6], options=SRPT, max_batch=2)
    equal(result.completion, [19, 5, 11])


# ---- routing


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


# ---- controllers


def test_memory_target_after_every_completion() -> None:
    # 640 tokens; l = 20, 30 (bin 0 of the edge 100: both), then one of output 1 that recomputes nothing
    views, policy = watch(cap(1))
    settings_ = Controller(eps_memory=0.5, ema=1.0)
    run(
        policy,
        [0, 0, 0, 0],
        [10, 20, 1, 5],
        prompt=[10, 10, 9, 10],
        etas=(640,),
        controller=settings_,
        max_batch=128,
        tbt_s=100.0,
    )
    # theta = 0: b_gauss = eta / mu; L0 = 0 at the first; weights 1, 1/2, 1/3
    wanted = {0: 128, 10: 32, 30: 25, 31: 25}
    seen = {view.now: view.target[1] for view in views if view.running == 0}
    # the SLA bounds before their first update at 10: (1 + 128) // 2, then low = min(bbar, high - 16) = 1, high = 128
    assert seen == {now: min(target, 64) for now, target in wanted.items()}


def test_memory_weights() -> None:
    lengths = [20, 50, 35, 80] * 10
    oracle = MemoryController(Controller(eps_memory=0.5, ema=0.2), 640, 128)
    mean = 0.0
    for n, length in enumerate(lengths, 1):
        oracle.m1.weight = oracle.m2.weight = max(1 / n, 0.02)
        oracle.update([length], 1)
        mean += (length - mean) * max(1 / n, 0.02)
    assert oracle.mu == pytest.approx(mean, rel=1e-12)


def test_sla_target_of_every_server() -> None:
    # D = 3, alpha = 16, max_batch = 64, window 4 s.  Server 0: prefill to 1, decoding from there; the segment that ends
    # after 4 s is that of the completion at 9 (b = 1, tau = 1): low = min(1, 64 - 16), high = min(64 + 4, 64)
    views, policy = watch(lambda view: (1, 1))
    options = Options(window_s=4.0, token_budget=INF)
    run(policy, [0, 0.5, 9, 9], [9, 2, 1, 1], etas=(INF, INF), options=options, tbt_s=3.0, max_batch=64)
    at_9 = {view.server: view.target[1] for view in views if view.now == 9}
    assert at_9 == {0: 32, 1: 32}
    slow: list[View]
    slow, policy = watch(lambda view: (1, 1))
    run(policy, [0, 0.5, 9, 9], [9, 2, 1, 1], etas=(INF, INF), options=options, tbt_s=0.5, max_batch=64)
    # tau = 1 > D: high = max(1, 1 + 16); server 1 had decoded one step by 2.5, less than a window after the start
    assert {view.server: view.target[1] for view in slow if view.now == 9} == {0: 9, 1: 32}


def test_target_is_at_least_who_decodes() -> None:
    views, policy = watch(cap(8))
    run(
        policy,
        [0, 0, 0, 0, 4],
        [50] * 4 + [1],
        tbt_s=0.1,
        options=Options(window_s=0.5),
        controller=Controller(alpha=0),
    )
    assert [(view.decoding, view.target[1]) for view in views if view.now == 4] == [(4, 64)]
    views, policy = watch(cap(8))
    run(
        policy,
        [0, 0, 0, 0, 1.5, 3.5],
        [50] * 4 + [1, 1],
        options=Options(window_s=0.5),
        controller=Controller(alpha=0, delta=128),
    )
    # at 2 request 4 is admitted, at 3 its chunk has ended the second segment: tau = 1 > D, high = max(4, 1)
    assert [(view.decoding, view.target[1]) for view in views if view.now == 4] == [(4, 4)]


def test_time_of_the_sla_window_counts_stalls() -> None:
    seen: list[tuple[float, int, int]] = []
    original = SlaController.update

    def note(self: SlaController, time: float, iterations: int, members: int) -> None:
        seen.append((time, iterations, members))
        original(self, time, iterations, members)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlaController, "update", note)
        # 0 prefills to 1, decodes to 2; 1 prefills to 3 while 0 stalls; both decode to 4 where 1 completes; 0 to 5
        run(cap(8), [0, 1.5], [4, 2], options=Options(prefill="first", window_s=2.5))
        run(cap(8), [0, 1.5], [4, 2], options=Options(prefill="chunked", window_s=2.5))
    # the segment ends at 3, a window after the start: 2 s and, with the stall, one iteration of one member; in chunks
    # nobody stalls; afterwards no window is over before the end
    assert seen == [(2.0, 1, 1), (2.0, 2, 2)]


# ---- noise


def test_noise_has_mean_one_and_follows_the_number_of_the_segment() -> None:
    factors = np.array([noise_factor(0.2, 99, number) for number in range(4000)])
    assert factors.mean() == pytest.approx(1.0, abs=0.02)
    assert np.log(factors).std() == pytest.approx(0.2, rel=0.05)
    noisy = Profile("n", "split", dict(UNIT.coefficients), INF, noise_sigma=0.2)
    requests = Requests.checked([0, 0], [1, 1], [1, 3])
    config = SimConfig((Server(noisy, INF), Server(noisy, INF)))
    simulated = ContinuousSimulator(config, requests, cap(1), WHOLE, noise_key=99, tbt_s=0.05).run()
    # segments: 0 the prefill on server 0, 1 on server 1, 2 the decoding on server 1
    assert simulated.completion[0] == factors[0]
    assert simulated.completion[1] == factors[1] + factors[2] * 2


# ---- laws

COMMON = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def simulate_case(case: Case, decide: Decide) -> ContinuousResult:
    """The oracle on a random case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ContinuousSimulator(case.config, case.requests, decide, case.options, noise_key=7).run()


@settings(COMMON, max_examples=100)
@given(st.data())
def test_everyone_ends_once_and_memory_holds(data) -> None:
    """Submitted = completed + rejected + dropped; stamps in order; blocks within capacity; a gap per later token."""
    case = data.draw(cases(drained=True))
    assert_laws(case, simulate_case(case, scripted(make_script(chooser(data.draw), case.config))))


def test_laws_by_lot() -> None:
    """The same where memory is tight more often."""
    evicted = 0
    for seed in range(150):
        pick = dice(seed)
        case = make_case(pick, lattice=seed % 2 == 0, drained=True)
        result = simulate_case(case, scripted(make_script(pick, case.config)))
        assert_laws(case, result)
        evicted += result.evictions.sum()
    assert evicted > 200


def assert_laws(case: Case, result: ContinuousResult) -> None:
    """What holds at the end of every run that was not cut off."""
    n = len(case.requests)
    assert result.count(COMPLETED) + result.count(REJECTED) + result.count(DROPPED) == n
    done = result.status == COMPLETED
    stamps = (case.requests.arrival_s, result.dispatch, result.first_token, result.last_token, result.completion)
    for before, after in zip(stamps, stamps[1:], strict=False):
        assert (before[done] <= after[done]).all()
    for server, peak in zip(case.config.servers, result.peak_blocks, strict=True):
        assert 16 * peak <= server.eta
    if result.count(DROPPED) == 0:
        assert len(result.gaps) == (case.requests.output_tokens[done] - 1).sum()
        prefilled = sum(row[3] for row in result.iterations)
        assert prefilled >= case.requests.prompt_tokens[done].sum()
    if not result.evictions.any() and not result.count(DROPPED):
        assert sum(row[2] for row in result.iterations) == (case.requests.output_tokens[done] - 1).sum()


def one_slot(case: Case, **options: Any) -> tuple[ContinuousResult, reference.ReferenceResult]:
    """A case with a batch of one in both engines; capacities are whole blocks, and no overhead (it differs)."""
    servers = tuple(
        Server(Profile("p", s.profile.form, s.profile.coefficients, INF), s.eta if s.eta == INF else s.eta // 16 * 16)
        for s in case.config.servers
    )
    queueing = Queueing(case.config.queueing.edges, case.config.queueing.discipline)
    config = SimConfig(servers, queueing, max_batch=1, slos=case.config.slos)
    static: Callable = lambda view: (view.num_bins, 1)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        slow = ContinuousSimulator(config, case.requests, static, Options(**options)).run()
        batch = reference.ReferenceSimulator(config, case.requests, static).run()
    return slow, batch


@pytest.mark.parametrize(
    "options", [{"prefill": "first"}, {"token_budget": INF}, {"admission": "prompt", "token_budget": INF}]
)
@settings(COMMON, max_examples=40)
@given(st.data())
def test_one_slot_is_the_batch_engine_of_batch_one(options: dict[str, Any], data) -> None:
    """Every stamp, every end, every discipline of the batch engine."""
    slow, batch = one_slot(data.draw(cases(drained=True)), **options)
    for name in ("dispatch", "first_token", "last_token", "completion"):
        np.testing.assert_allclose(getattr(slow, name), getattr(batch, name), rtol=1e-9, err_msg=name)
    equal(slow.status, batch.status)
    assert slow.in_system_integral == pytest.approx(batch.in_system_integral, rel=1e-9)
