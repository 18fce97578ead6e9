"""The continuous oracle against schedules worked out by hand: memory, preemption, preemption by choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llmsched_env.config import Queueing
from tests.oracles.batch import COMPLETED, DROPPED, REJECTED
from tests.oracles.continuous import Options, cap
from tests.oracles.test_continuous.tools import INF, NAN, PROMPT, equal, run, watch

# ---- memory


def test_the_watermark_keeps_a_share_free_beside_members() -> None:
    hundredth = replace(PROMPT, watermark=0.01)
    # 100 blocks: 90 and 9 fit beside a watermark of 1, 90 and 10 do not; without one they do
    fits = run(cap(8), [0, 0], [1, 1], prompt=[1440, 144], etas=(1600,), options=hundredth)
    waits = run(cap(8), [0, 0], [1, 1], prompt=[1440, 145], etas=(1600,), options=hundredth)
    without = run(cap(8), [0, 0], [1, 1], prompt=[1440, 160], etas=(1600,), options=PROMPT)
    equal(fits.dispatch, [0, 0])
    equal(waits.dispatch, [0, 1])
    equal(without.dispatch, [0, 0])
    # a share of one block more than there are, rounded down: of 9 blocks a tenth is 1, of 8 none
    small: dict[str, Any] = {"prompt": [96, 32, 16], "options": replace(PROMPT, watermark=0.1)}
    equal(run(cap(8), [0, 0, 0], [1, 1, 1], etas=(144,), **small).dispatch, [0, 0, 1])
    equal(run(cap(8), [0, 0, 0], [1, 1, 1], etas=(128,), **small).dispatch, [0, 0, 1])
    equal(run(cap(8), [0, 0], [1, 1], prompt=[96, 32], etas=(128,), options=small["options"]).dispatch, [0, 0])
    alone = run(cap(8), [0], [1], prompt=1600, etas=(1600,), options=hundredth)
    equal(alone.dispatch, [0])


def test_the_newest_token_needs_no_slot_before_it_is_computed() -> None:
    # 1 block: 15 tokens and the first one fill it; the second, the last, never has a slot
    equal(run(cap(8), [0], [2], prompt=15, etas=(16,)).completion, [2])
    equal(run(cap(8), [0], [3], prompt=15, etas=(16,)).status, [DROPPED])
    # 2 blocks: at 1 request 0 has 16 tokens of context and needs 1 block, so the other joins
    both = run(cap(8), [0, 0.5], [2, 1], prompt=[15, 1], etas=(32,), options=PROMPT)
    equal(both.completion, [2, 2])


def test_a_prompt_takes_its_blocks_chunk_by_chunk() -> None:
    # 4 blocks, budget 16.  1 joins at 1 (1 + 3 blocks).  Beside 0 it prefills 15 tokens to 2, and 30 to 3.  From 2 on
    # request 0 takes 2 blocks; 1 takes 2 of its 3, and the third when 0 is done.
    result = run(
        cap(8), [0, 0.5], [3, 1], prompt=[15, 33], etas=(64,), options=Options("prompt", token_budget=16), max_batch=8
    )
    equal(result.preemptions, [0, 0])
    equal(result.dispatch, [0, 1])
    equal(result.completion, [3, 4])
    assert result.peak_blocks == [4]


def test_admission_by_prediction() -> None:
    # 10 blocks: 2 and 12 + 20 tokens reserve 2 and 2 blocks; 0 reserves 7
    reserve: dict[str, Any] = {"prompt": [90, 12, 12], "predicted": [20, 20, 20], "etas": (160,)}
    result = run(cap(8), [0, 0, 0], [3, 3, 3], **reserve)
    equal(result.dispatch, [0, 0, 3])
    equal(run(cap(8), [0, 0, 0], [3, 3, 3], options=PROMPT, **reserve).dispatch, [0, 0, 0])


def test_preemption_and_recompute() -> None:
    # 100 blocks, 90 + 10 held from 0; at 1 the first tokens need 91 + 11: the newest leaves with one token.
    # It comes back at 3, when 0 is done, prefills 161 tokens to 4 (its second token) and ends at 5.
    views, policy = watch(cap(8))
    result = run(policy, [0, 0], [3, 3], prompt=[1440, 160], etas=(1600,), options=PROMPT)
    equal(result.preemptions, [0, 1])
    equal(result.first_token, [1, 1])
    equal(result.completion, [3, 5])
    equal(result.dispatch, [0, 0])
    equal(result.generated, [0, 1])
    equal(result.predicted, [3, 3])
    equal(sorted(result.gaps), [1, 1, 1, 3])
    assert [row[2:] for row in result.iterations] == [(0, 1600), (1, 0), (1, 0), (0, 161), (1, 0)]
    assert [view.now for view in views] == [0, 1, 3]
    assert result.peak_blocks == [100]


def test_the_prediction_is_raised_only_above_what_was_seen() -> None:
    wrong = run(cap(8), [0, 0], [3, 3], prompt=[1440, 160], predicted=[3, 1], etas=(1600,), options=PROMPT)
    equal(wrong.predicted, [3, 2])


def test_who_is_alone_is_dropped() -> None:
    # 2 blocks; at 17 it has 16 + 17 tokens, and the KV of the newest does not fit
    result = run(cap(8), [0, 0], [40, 1], prompt=16, predicted=[1, 1], etas=(32,))
    equal(result.status, [DROPPED, COMPLETED])
    equal(result.completion, [NAN, 18])
    assert result.end == 18


def test_capacity_counts_whole_blocks() -> None:
    # 47 tokens are 2 blocks, 32 tokens
    result = run(cap(8), [0, 0], [1, 1], prompt=[33, 32], etas=(47,))
    equal(result.status, [REJECTED, COMPLETED])


def test_a_half_prefilled_member_leaves_and_stands_before_the_others() -> None:
    # 5 blocks, budget 2.  0 (31 tokens) is prefilled at 16, together with the first token of 1.  At 33 it has 49 tokens
    # and needs a fourth block beside the 2 of request 1, which has 18 of its 31 and no output yet.
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
    assert sum(row[3] for row in result.iterations if row[0] <= 33) == 31 + 18
    at_33 = [view for view in views if view.now == 33]
    assert [view.head_number for view in at_33] == [(1, 1)]
    assert result.preemptions[1] >= 1
    assert result.first_token[1] > 40
    equal(result.status, [COMPLETED] * 3)


# ---- preemption by choice

SRPT = Options(token_budget=INF, srpt=True)


def test_srpt_evicts_who_lacks_most() -> None:
    # at 2 request 0 lacks 8, the head 3: out it goes; it comes back at 5 and needs 8 more
    result = run(cap(1), [0, 1.5], [10, 3], options=SRPT, max_batch=2)
    assert [(d.time, d.admitted, d.preempted) for d in result.decisions] == [
        (0, (0,), ()),
        (2, (1,), (0,)),
        (2, (), ()),
        (3, (), ()),
        (5, (0,), ()),
    ]
    equal(result.completion, [13, 5])
    equal(result.generated, [2, 0])


def test_srpt_spares_equals_and_is_asked_when_full() -> None:
    equal(run(cap(1), [0, 1.5], [10, 8], options=SRPT, max_batch=2).preemptions, [0, 0])
    full = run(cap(1), [0, 1.5], [10, 3], options=SRPT, max_batch=1)
    equal(full.preemptions, [1, 0])
    equal(full.completion, [13, 5])


def test_srpt_evicts_for_memory_but_not_for_who_cannot_come_anyway() -> None:
    # 10 blocks; at 2 request 0 lacks 8 and needs 9 of them
    memory: dict[str, Any] = {
        "prompt": [140, 30],
        "etas": (160,),
        "options": Options("prompt", token_budget=INF, srpt=True),
    }
    equal(run(cap(8), [0, 1.5], [10, 3], **memory).preemptions, [1, 0])
    # server 0 cannot hold the head: its member stays, and the head goes to server 1 at 2
    small = run(cap(1), [0, 0.5, 1], [10, 10, 3], prompt=[1, 1, 40], etas=(32, 64), options=SRPT, max_batch=2)
    equal(small.preemptions, [0, 1, 0])
    equal(small.dispatch, [0, 0.5, 1.5])


def test_srpt_puts_the_returned_among_the_others() -> None:
    result = run(cap(1), [0, 1.5, 1.5], [10, 3, 6], options=SRPT, max_batch=2)
    equal(result.completion, [19, 5, 11])
