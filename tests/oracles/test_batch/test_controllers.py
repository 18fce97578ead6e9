"""The two algorithms of the controllers, step by step and in closed loops."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from llmsched_env.config import Controller, Queueing, Server, SimConfig
from tests.oracles.batch import MemoryController, SlaController, dynamic, safe_tbt_s, scripted, static
from tests.oracles.test_batch.tools import INF, OVERFLOW, RICH, UNIT, simulate, watch


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
    # request 1 is preempted from the first batch: mu = 5 + 8 from request 0 alone; then 5 + 8 again.
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
