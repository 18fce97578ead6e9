"""The simulated closed loop: each request arrives when one before it ends, as a token-by-token oracle has it too."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched.eval.silicon import closed_loop
from llmsched.eval.silicon.closed_loop import EACH, Loop, LoopRules, close_loop, lengths
from llmsched_env.config import Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from tests.oracles.continuous import ContinuousSimulator, Options

SPLIT = Profile("s", "split", {"d0": 8.0, "d1": 0.05, "d2": 4e-5, "p0": 12.0, "p1": 0.03, "p2": 1e-6}, math.inf)
RULES = LoopRules("chunked", 512, 0.8)


@pytest.mark.parametrize("loop", [Loop(100, 20, 1), Loop(300, 40, 5), Loop(40, 60, 16)])
def test_every_arrival_is_a_completion(loop):
    """The j-th end is the arrival of request c + j; in the oracle too, which is handed the arrivals."""
    found = close_loop(SPLIT, loop, RULES)
    prompts, outputs = lengths(loop, RULES.shortest)
    config = SimConfig((Server(SPLIT),), max_batch=loop.clients)
    options = Options(admission="prompt", prefill="chunked", token_budget=512, watermark=0.0)
    requests = Requests.checked(found.arrivals, prompts, outputs)
    slow = ContinuousSimulator(config, requests, lambda view: (1, loop.clients), options=options).run()
    np.testing.assert_allclose(np.sort(slow.completion)[: -loop.clients], found.arrivals[loop.clients :], atol=1e-5)
    assert found.ttft_ms == pytest.approx(1e3 * np.mean(slow.first_token - found.arrivals), rel=1e-4)
    assert (found.arrivals[: loop.clients] == 0.0).all() and len(found.arrivals) == EACH * loop.clients


def test_one_client_is_a_request_alone_at_a_time():
    loop = Loop(200, 50, 1)
    found = close_loop(SPLIT, loop, LoopRules("chunked", 8192, 1.0))
    steps = [SPLIT.decode_step_ms(1, 200 + j) for j in range(1, 50)]
    assert found.tpot_ms == pytest.approx(np.mean(steps))
    assert found.ttft_ms == pytest.approx(SPLIT.prefill_ms([200]))


def test_at_most_as_many_requests_as_clients_are_in_the_system():
    loop = Loop(64, 30, 7)
    found = close_loop(SPLIT, loop, RULES)
    ends = np.sort(np.concatenate([found.arrivals[loop.clients :], [np.inf] * loop.clients]))
    for at in found.arrivals:
        assert (found.arrivals <= at).sum() - (ends <= at).sum() <= loop.clients


def test_a_start_from_another_loop_ends_at_the_same_arrivals():
    loop = Loop(300, 40, 5)
    first = close_loop(SPLIT, loop, RULES)
    again = close_loop(SPLIT, loop, RULES, start=first.arrivals * 1.3)
    np.testing.assert_allclose(again.arrivals, first.arrivals, atol=1e-5)


def test_a_loop_that_does_not_close_is_said(monkeypatch):
    monkeypatch.setattr(closed_loop, "MOST_RUNS", 1)
    with pytest.raises(ValueError, match="arrivals still move"):
        close_loop(SPLIT, Loop(300, 40, 5), RULES)
