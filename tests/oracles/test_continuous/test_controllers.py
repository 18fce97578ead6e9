"""The continuous oracle: targets of the controllers, and the noise."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_env.config import Controller, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles.batch import MemoryController, SlaController
from tests.oracles.continuous import ContinuousSimulator, Options, View, cap
from tests.oracles.continuous.durations import noise_factor
from tests.oracles.test_continuous.tools import INF, UNIT, WHOLE, run, watch

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
    # no member stalls; afterwards no window is over before the end
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
