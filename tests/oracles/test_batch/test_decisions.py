"""The batch oracle: what becomes of a decision, the order in a bin, and a run that is cut off."""

from __future__ import annotations

import pytest

from llmsched_env.config import SLO, Queueing, Server, SimConfig
from tests.oracles.batch import IN_SERVICE, WAITING, discipline_key, scripted, service_alone_s, static
from tests.oracles.test_batch.tools import INF, LENGTH, NAN, OVERFLOW, RICH, TOTAL, equal, members, simulate, watch

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


def test_an_preempted_request_keeps_its_bin() -> None:
    # predicted 2 (bin 0); preempted at 5 with prediction 6, beyond the edge 4: still bin 0
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
