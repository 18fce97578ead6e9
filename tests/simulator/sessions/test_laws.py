"""Sessions and closed loops: laws that hold whatever the policy, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.core.layout import COMPLETED, PENDING
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import Simulator
from llmsched_env.simulation.streaming import simulate_stream
from tests.simulator.invariants.tools import H100, run
from tests.simulator.test_parity import COMPILED

ENGINES = ("batch", "continuous")
POLICIES = {"batch": "multibin", "continuous": "sarathi"}


def drawn(n: int, seed: int = 0, **more: Any) -> Requests:
    """``n`` requests of exponential lengths, Poisson with 4 a second."""
    rng = np.random.default_rng(seed)
    prompt, output = (1 + rng.exponential(mean, n).astype(int) for mean in (300.0, 60.0))
    classes, arrival = np.zeros(n, np.int8), np.cumsum(rng.exponential(0.25, n))
    return Requests(arrival, prompt, output, output, classes, **more)


def chained(n: int, turns: int, seed: int = 0, **more: Any) -> Requests:
    """Sessions of so many turns with exponential think times of 2 s in the mean."""
    rows = np.arange(n)
    parent = np.where(rows % turns, rows - 1, -1)
    return drawn(n, seed, parent=parent, think_s=np.random.default_rng(seed + 1).exponential(2.0, n), **more)


def simulated(requests: Requests, engine: str, queueing: Queueing | None = None, **more: Any) -> RunResult:
    """A run on two servers."""
    config = SimConfig((Server(H100),) * 2, queueing or Queueing((30, 90)), engine=engine, **more)
    return run(config, requests, POLICIES[engine])


def ends(result: RunResult) -> np.ndarray:
    """When every request of the plan ended, (N,); NaN: it did not."""
    rows, found = result.requests, np.full(len(result.requests), np.nan)
    end = np.fmin(rows["completion"], rows["left"])
    end = np.where(rows["status"] == 3, rows["arrival"], end)  # rejected
    assert result.planned is not None
    found[result.planned] = end
    return found


def arrivals(result: RunResult) -> np.ndarray:
    """When every request of the plan arrived, (N,)."""
    found = np.zeros(len(result.requests))
    assert result.planned is not None
    found[result.planned] = result.requests["arrival"]
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("clients", [1, 20])
def test_littles_law_in_a_closed_loop(engine: str, clients: int) -> None:
    """N = X (E[T] + E[Z]): every client is served or thinks, until nothing is left to send."""
    n = 6_000
    think = np.random.default_rng(3).exponential(0.7, n)
    result = simulated(drawn(n, think_s=think, concurrency=clients), engine)
    rows = result.requests
    assert (rows["status"] == COMPLETED).all()
    last = rows["arrival"].max()  # after that clients run out of work
    sent = arrivals(result)
    in_system = np.minimum(rows["completion"], last) - rows["arrival"]
    think[:clients] = 0.0
    thought = np.minimum(think, last - (sent - think))  # of what is sent by then, all
    assert (in_system.sum() + thought.sum()) / last == pytest.approx(clients, rel=0.01)
    rate, time = n / last, (rows["completion"] - rows["arrival"]).mean() + think.mean()
    assert rate * time == pytest.approx(clients, rel=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_list_is_shared(engine: str) -> None:
    """Without think times the k-th request that is sent is the k-th of the plan, and N are always in the system."""
    result = simulated(drawn(3_000, concurrency=7), engine)
    assert result.planned is not None
    assert (result.planned == np.arange(3_000)).all()
    rows = result.requests
    begins, over = np.sort(rows["arrival"]), np.sort(rows["completion"])
    assert (begins[:7] == 0).all()
    assert (begins[7:] == over[:-7]).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("clients", [0, 5])
def test_a_request_comes_its_think_time_after_the_answer(engine: str, clients: int) -> None:
    """Every arrival of a session is the end of its parent and the think time; every session is whole."""
    requests = chained(2_000, 5, concurrency=clients)
    result = simulated(requests, engine)
    assert requests.parent is not None
    assert requests.think_s is not None
    child = requests.parent >= 0
    arrival, end = arrivals(result), ends(result)
    assert (arrival[child] == end[requests.parent[child]] + requests.think_s[child]).all()
    if clients == 0:
        assert (arrival[~child] == requests.arrival_s[~child]).all()
    else:
        taken, over = np.sort(arrival[~child] - requests.think_s[~child])[clients:], np.sort(end[4::5])
        np.testing.assert_allclose(taken, over[:-clients], rtol=1e-12)
    assert summarize(result)["submitted"] == summarize(result)["completed"] == 2_000
    assert (np.diff(result.requests["arrival"]) >= 0).all()


LOSSES = {
    "patience": Queueing((30, 90), patience_s=1.0),
    "cap": Queueing((30, 90), queue_cap=2),
    "bucket": Queueing((30, 90), accept_rate=2.0, accept_burst=3.0),
    "deadline": Queueing((30, 90), overdue_factor=1.0, overdue="refuse"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", LOSSES)
@pytest.mark.parametrize("clients", [0, 150])
def test_a_session_goes_on_after_a_loss(engine: str, rule: str, clients: int) -> None:
    """Per session all requests are submitted and have one fate, though many answers are lost."""
    requests = chained(3_000, 6, concurrency=clients)
    requests = dataclasses.replace(requests, arrival_s=requests.arrival_s / 40.0)
    result = simulated(requests, engine, LOSSES[rule], slos=(SLO(e2e_s=3.0),))
    counts = result.counts
    assert counts["completed"] + counts["refused"] + counts["abandoned"] == 3_000
    assert counts["refused"] + counts["abandoned"] > 50
    end = ends(result)
    assert not np.isnan(end).any()
    child = np.arange(3_000) % 6 > 0
    assert requests.think_s is not None
    assert (arrivals(result)[child] == np.roll(end, 1)[child] + requests.think_s[child]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_cut_off_was_not_submitted(engine: str) -> None:
    """A horizon: what has not been sent counts in nothing, per session it is a tail."""
    requests = chained(2_000, 5, concurrency=10)
    result = simulated(requests, engine, horizon_s=60.0)
    sent = np.zeros(2_000, bool)
    assert result.planned is not None
    sent[result.planned[result.requests["status"] != PENDING]] = True
    assert 0 < sent.sum() < 2_000
    assert summarize(result)["submitted"] == sent.sum() == result.lane["next_arrival"]
    assert (np.diff(sent.reshape(-1, 5).astype(int), axis=1) <= 0).all()
    assert (result.requests["arrival"][: sent.sum()] <= 60.0).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("discipline", ["fifo", "edf", "slack", "sjf", "priority"])
def test_sessions_of_one_request_are_ordinary_arrivals(engine: str, discipline: str) -> None:
    """A plan without parents and clients gives the run of its arrivals, stamp for stamp."""
    plain = drawn(1_500)
    plain = dataclasses.replace(plain, arrival_s=plain.arrival_s / 10.0)
    queueing = Queueing((30, 90), discipline)
    known = simulated(plain, engine, queueing)
    found = simulated(dataclasses.replace(plain, parent=np.full(1_500, -1)), engine, queueing)
    for name in ("arrival", "dispatch", "first_token", "completion", "status"):
        assert (found.requests[name] == known.requests[name]).all(), name
    assert known.planned is None


def test_forks_overlap_and_a_client_waits_for_all_of_them() -> None:
    """Two children of one request arrive together; the next session begins when the last of them has ended."""
    parent = np.array([-1, 0, 0, -1])
    one = np.array([10, 10, 10, 10])
    output = np.array([5, 100, 3, 5])
    requests = Requests(np.zeros(4), one, output, output, np.zeros(4, np.int8), parent=parent, concurrency=1)
    result = simulated(requests, "continuous")
    arrival, end = arrivals(result), ends(result)
    assert arrival[1] == arrival[2] == end[0]
    assert arrival[3] == end[1] > end[2]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a later parent": ({"parent": [-1, 2, -1]}, r"parent\[1\]=2"),
    "its own parent": ({"parent": [-1, 1, -1]}, r"parent\[1\]=1"),
    "no such parent": ({"parent": [-1, -2, -1]}, r"parent\[1\]=-2"),
    "negative think time": ({"parent": [-1, 0, 1], "think_s": [0.0, -1.0, 0.0]}, r"think_s\[1\]=-1"),
    "no think time": ({"parent": [-1, 0, 1], "think_s": [0.0, np.nan, 0.0]}, r"think_s\[1\]=nan"),
    "think times of others": ({"parent": [-1, 0, 1], "think_s": [0.0]}, "think_s has shape"),
    "negative clients": ({"concurrency": -1}, "concurrency=-1"),
    "half a client": ({"concurrency": 1.5}, "concurrency=1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sessions_are_refused(case: str) -> None:
    """One line that names the value."""
    more, said = BAD[case]
    with pytest.raises(ValueError, match=said) as caught:
        Requests(np.zeros(3), np.ones(3, int), np.ones(3, int), np.ones(3, int), np.zeros(3, int), **more)
    assert "\n" not in str(caught.value)


def test_sessions_are_not_streamed_and_not_cut() -> None:
    """Their arrivals depend on answers."""
    requests = chained(100, 5)
    config = SimConfig((Server(H100),))
    with pytest.raises(ValueError, match="not streamed"):
        list(simulate_stream(config, [requests], COMPILED["static"], params=[4.0]))
    with pytest.raises(ValueError, match="not cut"):
        requests.part(10, 20)
    assert requests.part(0, 7).session.tolist() == [0, 0, 0, 0, 0, 5, 5]


def test_a_lane_is_used_again() -> None:
    """Loading other requests leaves nothing of the plan."""
    simulator = Simulator(SimConfig((Server(H100),)), 100)
    simulator.load(0, chained(100, 5))
    assert simulator.lane[0]["linked"]
    simulator.load(0, drawn(50))
    assert not simulator.lane[0]["linked"]
    simulator.run(COMPILED["static"], np.array([4.0]), np.zeros(1), np.random.default_rng(0))
    assert simulator.result().counts["completed"] == 50
