"""Traps: events that coincide, on the compiled kernel, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_env.config import Controller, Queueing, Server, SimConfig
from llmsched_env.core.view.decide import compile_policy
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import Simulator, simulate
from tests.simulator.traps.tools import INF

UNIT = Profile("unit", "split", {"d0": 1000.0, "d1": 0.0, "d2": 0.0, "p0": 1000.0, "p1": 0.0, "p2": 0.0}, INF)
"""Prefill 1 s, every token after it 1 s: a request of output m served from t ends at t + m."""

COLUMNS = 8


def spy(record, params, memory, rng):
    """Answers params[2i], params[2i + 1] at decision i (the last pair for ever) and notes what it was shown."""
    i = int(memory[0])
    memory[0] += 1
    row = 1 + 8 * i
    if row + 8 <= len(memory):
        memory[row], memory[row + 1] = record.now, record.server
        memory[row + 2], memory[row + 3] = record.waiting, record.head_number[record.num_bins]
        memory[row + 4], memory[row + 5] = record.free_servers, record.at_tick
        memory[row + 6], memory[row + 7] = record.server_batches, record.completed
    pair = 2 * min(i, len(params) // 2 - 1)
    return int(params[pair]), int(params[pair + 1])


SPY = compile_policy(spy)


@dataclass(frozen=True)
class Seen:
    """What a policy was shown at one decision."""

    now: float
    server: int
    waiting: int
    head: int
    free: int
    tick: int
    server_batches: int
    completed: int


def watch(
    arrival: Sequence[float],
    output: Sequence[int],
    *,
    answers: Sequence[tuple[int, int]] = ((1, 1),),
    predicted: Sequence[int] | None = None,
    prompt: int = 1,
    etas: Sequence[float] = (INF,),
    queueing: Queueing | None = None,
) -> tuple[list[Seen], NDArray]:
    """Every decision of a run on the profile UNIT, and the request records; bin 1 is `any`, size 0 waits."""
    requests = Requests.checked(arrival, [prompt] * len(arrival), output, predicted)
    config = SimConfig(
        tuple(Server(UNIT, eta) for eta in etas), queueing or Queueing(), controller=Controller(tbt_s=9.0)
    )
    simulator = Simulator(config, len(requests))
    simulator.load(0, requests)
    memory = np.zeros(1 + COLUMNS * 64)
    params = np.array(answers, dtype=np.float64).ravel()
    simulator.run(SPY, params, memory, np.random.default_rng(0))
    simulator.finish()
    rows = memory[1 : 1 + COLUMNS * int(memory[0])].reshape(-1, COLUMNS)
    return [Seen(float(row[0]), *(int(value) for value in row[1:])) for row in rows], simulator.requests[0]


def test_completion_and_completion() -> None:
    """Both servers end at 3: both completions happen before either is asked, and server 0 is asked first."""
    seen, rows = watch([0, 0, 1, 2], [3, 3, 1, 1], etas=(INF, INF))
    assert [(s.now, s.server, s.head, s.free, s.completed) for s in seen[2:]] == [(3, 0, 2, 2, 2), (3, 1, 3, 1, 2)]
    assert rows["completion"].tolist() == [3, 3, 4, 4]


def test_completion_and_completion_feed_the_controllers_in_server_order() -> None:
    """The averages of `any` depend on the order: server 1's batch is older, server 0's counts first."""
    requests = Requests.checked([0, 0, 1], [2, 6, 4], [1, 4, 3])
    config = SimConfig((Server(UNIT), Server(UNIT)), controller=Controller(tbt_s=9.0))
    result = simulate(config, requests, SPY, params=[1, 1], memory_size=1)
    assert result.requests["completion"].tolist() == [1, 4, 4]
    # lengths 3; then 7 (server 0), then 10 (server 1): 0.8 * (0.8 * 3 + 0.2 * 7) + 0.2 * 10
    assert result.bins["mean_l"][-1] == pytest.approx(0.8 * (0.8 * 3 + 0.2 * 7) + 0.2 * 10, rel=1e-15)


def test_completion_and_arrival() -> None:
    """The server is free when the request that arrives at that instant asks for one: one question, no waiting."""
    seen, rows = watch([0, 3], [3, 1])
    assert [(s.now, s.waiting, s.head, s.server_batches, s.completed) for s in seen] == [
        (0, 1, 0, 0, 0),
        (3, 1, 1, 1, 1),
    ]
    assert rows["dispatch"].tolist() == [0, 3]


def test_arrival_and_arrival() -> None:
    """Requests of one instant have all arrived before anybody is asked, and keep their order."""
    seen, rows = watch([0, 0, 0], [1, 1, 1])
    assert [(s.now, s.waiting, s.head) for s in seen] == [(0, 3, 0), (1, 2, 1), (2, 1, 2)]
    assert rows["dispatch"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("timer", [Queueing(hold_s=1.5), Queueing(tick_s=2.0)], ids=["hold", "tick"])
def test_arrival_and_timer(timer: Queueing) -> None:
    """Both at 2: the timer's question already shows the request that has just arrived."""
    seen, rows = watch([0.5, 2], [1, 1], answers=[(1, 0), (1, 9)], queueing=timer)
    assert [(s.now, s.waiting) for s in seen] == [(0.5, 1), (2, 2)]
    assert seen[1].tick == (timer.tick_s == 2.0)
    assert rows["dispatch"].tolist() == [2, 2]


@pytest.mark.parametrize("timer", [Queueing(hold_s=2.0), Queueing(tick_s=3.0)], ids=["hold", "tick"])
def test_completion_and_timer(timer: Queueing) -> None:
    """At 3 server 0 ends and the timer of the request that waits since 1 is due: one question, both free."""
    seen, _ = watch([0, 1], [3, 1], answers=[(1, 1), (1, 0), (1, 1)], etas=(INF, INF), queueing=timer)
    assert [(s.now, s.server, s.free, s.completed) for s in seen] == [(0, 0, 2, 0), (1, 1, 1, 0), (3, 0, 2, 1)]
    assert seen[2].tick == (timer.tick_s == 3.0)


def test_timer_and_timer() -> None:
    """The hold timer and a tick at 2: one question."""
    queueing = Queueing(hold_s=1.5, tick_s=2.0)
    seen, _ = watch([0.5, 9], [1, 1], answers=[(1, 0), (1, 1)], queueing=queueing)
    assert [(s.now, s.tick) for s in seen] == [(0.5, 0), (2, 1), (9, 0)]


PAIR: dict[str, Any] = {"prompt": 5, "predicted": [2, 2], "etas": (20.0, 20.0)}
"""Two requests of 8 tokens on a server of 20: 10 + 2 * 5 fits, so the later one leaves at 5 s."""


def test_preemption_and_arrival() -> None:
    """At 5 request 1 comes back and request 2 arrives: the other server sees both, the returned one first."""
    pair: dict[str, Any] = {**PAIR, "predicted": [2, 2, 1], "etas": (20.0, 30.0)}
    seen, rows = watch([0, 0, 5], [8, 8, 1], answers=[(1, 2)], **pair)
    assert [(s.now, s.server, s.waiting, s.head) for s in seen] == [(0, 0, 2, 0), (5, 1, 2, 1)]
    assert rows["preemptions"].tolist() == [0, 1, 0]
    assert rows["batch"][1] == rows["batch"][2]


@pytest.mark.parametrize("timer", [Queueing(hold_s=4.0), Queueing(tick_s=5.0)], ids=["hold", "tick"])
def test_preemption_and_timer(timer: Queueing) -> None:
    """At 5 request 1 comes back and the timer of request 2 (waiting since 1) is due: one question shows both."""
    pair: dict[str, Any] = {**PAIR, "predicted": [2, 2, 1]}
    seen, _ = watch([0, 0, 1], [8, 8, 1], answers=[(1, 2), (1, 0), (1, 2)], queueing=timer, **pair)
    assert [(s.now, s.waiting) for s in seen[:3]] == [(0, 2), (1, 1), (5, 2)]
    assert seen[2].tick == (timer.tick_s == 5.0)
    assert all(s.now > 5 for s in seen[3:])


def test_preemption_and_completion_of_the_same_server() -> None:
    """Member 0 has its two tokens when member 1 must leave: at 5 the batch ends, and the server is asked once."""
    seen, rows = watch([0, 0], [2, 8], answers=[(1, 2)], **{**PAIR, "etas": (20.0,)})
    assert [(s.now, s.waiting, s.head, s.server_batches) for s in seen] == [(0, 2, 0, 0), (5, 1, 1, 1)]
    assert rows["completion"][0] == 5


def test_preemption_and_completion_of_another_server() -> None:
    """At 5 server 0 ends and request 2 leaves server 1: server 0 is asked once, with request 2 waiting."""
    answers = [(1, 1), (1, 2)]
    seen, _ = watch([0, 0, 0], [5, 8, 8], answers=answers, **{**PAIR, "predicted": [2, 2, 2]})
    assert [(s.now, s.server, s.waiting, s.head) for s in seen] == [(0, 0, 3, 0), (0, 1, 2, 1), (5, 0, 1, 2)]


def test_preemption_and_preemption() -> None:
    """Pairs on servers 0 and 1 overflow at 5: the third server sees both that left, in order of number."""
    pair: dict[str, Any] = {**PAIR, "predicted": [2] * 4, "etas": (20.0, 20.0, 30.0)}
    seen, rows = watch([0] * 4, [8] * 4, answers=[(1, 2)], **pair)
    assert [(s.now, s.server, s.waiting, s.head) for s in seen[:3]] == [(0, 0, 4, 0), (0, 1, 2, 2), (5, 2, 2, 1)]
    assert rows["batch"][1] == rows["batch"][3] == 2


def test_decisions_come_last_and_in_server_order() -> None:
    """Free servers are asked in number order, until none is free, nothing waits, or the policy waits."""
    seen, _ = watch([0] * 5, [4] * 5, etas=(INF,) * 3)
    assert [(s.now, s.server, s.free) for s in seen[:3]] == [(0, 0, 3), (0, 1, 2), (0, 2, 1)]
    seen, _ = watch([0, 0, 1], [4] * 3, answers=[(1, 1), (1, 0), (1, 1)], etas=(INF,) * 3)
    assert [(s.now, s.server) for s in seen[:3]] == [(0, 0), (0, 1), (1, 1)]
