"""The policies of the batch oracle."""

from __future__ import annotations

from typing import Any

from llmsched_env.config import Queueing
from tests.oracles.batch import dynamic, multibin, multibin_fixed, timeout
from tests.oracles.test_batch.tools import members, simulate


def test_multibin_round_robin() -> None:
    # bins 0, 1, 2 by predicted 1, 10, 20: 0, then 1, then 2, then 0 again (1 is empty by then), then 2
    predicted = [1, 10, 20, 1, 20]
    result = simulate(multibin(), [0] * 5, [1] * 5, predicted=predicted, queueing=Queueing(edges=(10, 20)), max_batch=1)
    assert [batch.members for batch in result.batches] == [(0,), (1,), (2,), (3,), (4,)]
    assert [batch.bin for batch in result.batches] == [0, 1, 2, 0, 2]


def test_multibin_longest_and_oldest() -> None:
    predicted = [10, 1, 20, 20, 1]
    options: dict[str, Any] = {"predicted": predicted, "queueing": Queueing(edges=(10, 20))}
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
