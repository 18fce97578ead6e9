"""The continuous oracle against schedules worked out by hand: iterations, and which server is asked when."""

from __future__ import annotations

from llmsched_env.config import Queueing
from tests.oracles.continuous import Options, cap, scripted
from tests.oracles.test_continuous.tools import INF, RICH, TOKENS, asked, equal, run

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


# ---- which server is asked, and when


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
