"""What every policy decides, on records filled by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched_env.config import Queueing, SimConfig
from tests.policies.tools import EVERY, SERVER, Asked


def test_static_and_dynamic() -> None:
    assert Asked("static")((3, 1)) == (2, 8)
    assert Asked("static:batch=16")((3, 1)) == (2, 16)
    assert Asked("dynamic")((3, 1)) == (2, 30)


def test_multibin_round_robin() -> None:
    ask = Asked("multibin")
    assert [ask(lengths) for lengths in ((1, 0, 1, 1), (1, 1, 1, 1), (1, 1, 0, 1), (1, 1, 0, 0), (1, 0, 0, 0))] == [
        (0, 10),
        (1, 20),
        (3, 40),
        (0, 10),
        (0, 10),
    ]


def test_multibin_longest_and_oldest() -> None:
    ask = Asked("multibin:select=longest:cap=15")
    assert [ask((2, 5, 1)), ask((0, 1, 4)), ask((0, 4, 4))] == [(1, 15), (2, 15), (2, 15)]
    assert ask((4, 4, 4), head_number=(7, 5, 9)) == (1, 15)
    ask = Asked("multibin:select=oldest")
    assert [ask((9, 1, 0)), ask((9, 1, 1), head_number=(3, 8, 5))] == [(1, 20), (0, 10)]


def test_longest_queue() -> None:
    ask = Asked("longest-queue")
    assert [ask((0, 1, 2)), ask((0, 3, 2)), ask((0, 3, 3)), ask((3, 3, 0), head_number=(4, 6, -1))] == [
        (2, 30),
        (1, 20),
        (2, 30),
        (0, 10),
    ]


def test_weighted_queue() -> None:
    ask = Asked("weighted-queue:power=1")
    assert ask.bound.details
    assert ask((4, 3, 0), batch_time=(2.0, 3.0, 0.0)) == (1, 20)
    assert ask((4, 2, 0), batch_time=(2.0, 3.0, 0.0)) == (0, 10)
    assert ask((3, 2, 1), batch_time=(2.0, 3.0, 6.0), head_number=(5, 3, 4)) == (1, 20)
    assert Asked("weighted-queue:power=0")((3, 4, 0), batch_time=(9.0, 1.0, 0.0)) == (1, 20)


def test_least_slack() -> None:
    ask = Asked("least-slack")
    assert ask.bound.details
    assert ask((1, 1, 0), slack=(2.0, 3.0, -9.0)) == (0, 10)
    assert ask((1, 1, 1), slack=(2.0, -3.0, math.inf)) == (1, 20)
    assert ask((1, 1, 1), slack=(2.0, 2.0, 2.0), head_number=(5, 3, 4)) == (1, 20)
    assert ask((1, 1, 1), slack=(math.inf,) * 3, head_number=(5, 4, 3)) == (2, 30)


@pytest.mark.parametrize("name", ["sjf", "edf", "oracle-sjf"])
def test_orders(name: str) -> None:
    ask = Asked(name)
    assert [ask((2, 2)), Asked(f"{name}:batch=5")((2, 2))] == [(2, 30), (2, 5)]
    assert ask.bound.configure(SimConfig((SERVER,))).queueing.discipline == name
    assert ask.bound.clairvoyant == name.startswith("oracle-")


def test_timeout_compares_the_sum() -> None:
    ask = Asked("timeout")
    assert ask((4,), now=0.0) == (1, 4)
    assert ask((3,), now=0.0) == (1, 0)
    assert ask((3,), now=0.0, can_wait=0) == (1, 4)
    arrivals = np.random.default_rng(0).uniform(0.0, 3.0, 200)
    assert (arrivals + 0.5 - arrivals < 0.5).any()  # there the age would be too small at the timer
    for arrival in arrivals:
        due = arrival + 0.5
        assert ask((3,), now=due, oldest_arrival=arrival) == (1, 4)
        assert ask((3,), now=math.nextafter(due, 0.0), oldest_arrival=arrival) == (1, 0)
    assert Asked("timeout")((2,), now=0.0, max_batch=2) == (1, 2)


def test_window() -> None:
    ask = Asked("window:every=2000")
    assert [ask((3,)), ask((3,), at_tick=1), ask((3,), can_wait=0)] == [(1, 0), (1, 128), (1, 128)]
    assert ask.bound.configure(SimConfig((SERVER,))).queueing.tick_s == 2.0


def test_priority() -> None:
    bound = parse("priority:sequences=6:tokens=300:wait=700")
    assert Asked("priority:sequences=6")((9,)) == (1, 6)
    assert bound.configure(SimConfig((SERVER,))).queueing == Queueing(
        discipline="priority", max_tokens=300.0, max_wait_s=0.7
    )


def test_multibin_fixed_serves_in_the_order_of_formation() -> None:
    ask = Asked("multibin-fixed:batch=4")
    assert ask((3, 3, 0)) == (3, 0)
    assert ask((3, 4, 0)) == (1, 4)  # formed while a server is free: served at once
    assert ask((4, 0, 7)) == (2, 4)  # both formed while all were busy: the older head
    assert ask((4, 8, 3)) == (0, 4)  # bin 0 formed before bin 1
    assert ask((4, 8, 4)) == (1, 4)
    assert ask((4, 4, 4)) == (1, 4)  # bin 1's second was there before those of bins 0 and 2
    assert ask((4, 4, 4)) == (2, 4)  # 0 and 2 were seen together: the older head; bin 1's third comes behind them
    assert ask((4, 4, 0)) == (0, 4)
    assert ask((3, 4, 3)) == (1, 4)
    assert ask((3, 3, 3)) == (3, 0)
    assert ask((3, 0, 3), can_wait=0, head_number=(8, -1, 9)) == (0, 4)


def test_multibin_fixed_with_a_full_ring() -> None:
    ask = Asked("multibin-fixed:batch=2", memory=2 + 2 + 3)  # room for three batches
    lengths = [4, 6]
    served = []
    for _ in range(5):
        choice, size = ask(tuple(lengths))
        served.append(choice)
        lengths[choice] -= size
    assert served == [1, 0, 1, 1, 0]
    assert not ask.memory[[1, 2, 3]].any()
    assert ask((1, 1)) == (2, 0)


def test_multibin_fixed_is_bounded_by_the_largest_batch() -> None:
    assert Asked("multibin-fixed:batch=64")((5, 8), max_batch=8) == (1, 8)


def test_adaptive_memory() -> None:
    ask = Asked("adaptive-memory:start=8:min=7:max=10:threshold=0.5")
    assert ask((7,)) == (1, 0)
    assert ask((8,)) == (1, 8)
    assert ask((8,), server=1) == (1, 8)
    used: dict[str, Any] = {"last_kv_share": 0.5}
    assert ask((20,), server_batches=1) == (1, 10)
    assert ask((20,), server_batches=1) == (1, 10)  # the same batch is not counted twice
    assert ask((20,), server_batches=2) == (1, 10)
    assert ask((20,), server_batches=3, **used) == (1, 9)
    assert ask((20,), server=1, server_batches=1, **used) == (1, 7)
    assert ask((20,), server=1, server_batches=2, **used) == (1, 7)
    assert ask((1,), now=6.5, oldest_arrival=4.5) == (1, 9)
    assert ask((1,), now=6.5, oldest_arrival=4.6) == (1, 0)
    assert ask((1,), can_wait=0) == (1, 9)
    assert ask((5,), max_batch=5) == (1, 5)


def test_aimd() -> None:
    ask = Asked("aimd:share=0.5")
    met: dict[str, Any] = {"slo_e2e": 4.0, "last_service": 2.0}
    missed: dict[str, Any] = {"slo_e2e": 4.0, "last_service": 2.1}
    assert ask(slo_e2e=4.0) == (1, 1)
    assert [ask(server_batches=n, **met)[1] for n in range(1, 11)] == list(range(2, 12))
    assert ask(server_batches=10, **missed) == (1, 11)  # the same batch is not counted twice
    assert [ask(server_batches=n, **missed)[1] for n in (11, 12)] == [9, 8]  # 11, 9.9, 8.91
    assert ask(server=3, server_batches=1, **missed) == (1, 1)
    assert ask(server_batches=13, max_batch=4, **met) == (1, 4)
    absolute = Asked("aimd:objective=1000")
    assert absolute(server_batches=1, slo_e2e=0.1, last_service=1.0) == (1, 2)
    assert absolute(server_batches=2, slo_e2e=9.0, last_service=1.1) == (1, 1)
    assert Asked("aimd")(server_batches=1, slo_e2e=math.inf, last_service=99.0) == (1, 2)


def test_random_is_uniform_over_what_is_there() -> None:
    ask = Asked("random")
    drawn = np.array([ask((1, 0, 2, 0), max_batch=3) for _ in range(9000)])
    choices, counts = np.unique(drawn[:, 0], return_counts=True)
    assert choices.tolist() == [0, 2, 4]
    assert counts.min() > 2800  # 3000 expected, standard deviation 45
    sizes, counts = np.unique(drawn[:, 1], return_counts=True)
    assert sizes.tolist() == [1, 2, 3]
    assert counts.min() > 2800


def test_random_draws_from_its_stream_only() -> None:
    before = str(np.random.get_state())  # noqa: NPY002  (it must not move)
    ask, again, other = Asked("random", seed=0), Asked("random", seed=0), Asked("random", seed=1)
    runs = [[policy((4, 4, 4)) for _ in range(20)] for policy in (ask, again, other)]
    assert runs[0] == runs[1] != runs[2]
    assert str(np.random.get_state()) == before  # noqa: NPY002
    assert ask.rng.bit_generator.state == again.rng.bit_generator.state != np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize("name", [name for name in EVERY if name != "random"])
def test_the_others_draw_nothing(name: str) -> None:
    ask = Asked(name)
    for now in (0.0, 5.0):
        ask((9, 9), now=now)
    assert ask.rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
