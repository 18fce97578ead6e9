"""The batch oracle against schedules and service times worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched_env.profiles import Profile
from tests.oracles.batch import COMPLETED, decode_step_s, prefill_s, static
from tests.oracles.test_batch.tools import (
    AFFINE,
    FLOOR,
    INF,
    LENGTH,
    RICH,
    TOKENS,
    TOTAL,
    UNIT,
    equal,
    members,
    simulate,
)


def test_six_requests_on_two_servers() -> None:
    # t=0   requests 0 and 1 (3 and 1 tokens) on server 0: prefill to 1, L=3, ends at 3
    # t=1   request 2 (2 tokens) on server 1: prefill to 2, ends at 3
    # t=1.5 and 2: requests 3 and 4 wait, no server is free
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
