"""The continuous oracle against schedules worked out by hand: memory, preemption, preemption by choice."""

from __future__ import annotations

from typing import Any

from llmsched_env.config import Queueing
from tests.oracles.batch import COMPLETED, DROPPED, REJECTED
from tests.oracles.continuous import Options, cap
from tests.oracles.test_continuous.tools import INF, NAN, PROMPT, equal, run, watch

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
    equal(result.preemptions, [0, 1])
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
