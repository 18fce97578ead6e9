"""The policy `rollout`: its small simulation against the simulator, what it may know, and what it does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched.policies import get, names, parse
from llmsched.policies.rollout.places import law_of, packed
from llmsched.policies.rollout.policy import adapt
from llmsched.policies.rollout.what_if import play, service_s
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.workload import Workload
from tests.policies.tools import Asked

NUMBERS = [4.0, 2.0, 0.3, 1.0, 1e-3]
"""futures, ahead, power, caution, soft."""


def system(profile: str = "h100-80gb_llama2-70b_tp4", servers: int = 1, edges: tuple[int, ...] = ()) -> SimConfig:
    """A system with an E2E target of 20 s."""
    known = Server(load_profile(profile))
    return SimConfig((known,) * servers, Queueing(edges), slos=(SLO(e2e_s=20.0),))


@pytest.mark.parametrize("profile", ["h100-80gb_llama2-70b_tp4", "synthetic", "ideal", "h100_llama2-7b_tp1-gemm"])
def test_its_service_time_is_the_simulators(profile: str) -> None:
    """Of a batch of five, whatever the form of the latency law."""
    config = system(profile)
    prompts, outputs = np.array([100, 700, 30, 50, 5]), np.array([40, 9, 200, 1, 64])
    requests = Requests(np.zeros(5), prompts, outputs, outputs, np.zeros(5, np.int64))
    result = simulate(config, requests, parse("static:batch=5").decide, params=[5.0])
    law = law_of(packed(adapt(config, {}), NUMBERS), 0)
    found = service_s(law, 5, float(prompts.sum()), float((prompts**2).sum()), outputs.max(), (prompts + outputs).max())
    assert found == pytest.approx(result.requests["completion"].max(), rel=1e-9)


def one_bin(arrivals: list[float], output: float) -> tuple[np.ndarray, np.ndarray]:
    """A future of one bin."""
    return np.array([[(at, 100.0, output) for at in arrivals]]), np.array([len(arrivals)])


def cost_of(future: np.ndarray, ends: np.ndarray, size: int) -> float:
    """What a future of one bin costs on one server that takes ``size`` now, and eight at a time later."""
    params, members = packed(adapt(system(), {}), NUMBERS), np.empty(128, np.int64)
    late, ones = (0, 1, 0.0), np.ones(1)
    return play(params, future, ends, np.zeros(1), (0, 0, size), ones, np.full(1, 8), members, late, np.zeros(1))


@pytest.mark.parametrize(("output", "misses"), [(10.0, 0.0), (5000.0, 3.0)])
def test_a_future_costs_its_misses(output: float, misses: float) -> None:
    """Three short requests are served in time, three that take longer than the target are not."""
    future, ends = one_bin([-0.5, 0.0, 1.0], output)
    found = cost_of(future, ends, size=2)
    assert found == pytest.approx(misses, abs=1e-3)


def test_waiting_can_be_tried() -> None:
    """A request that waits for the next one is served with it, and nothing is lost."""
    future, ends = one_bin([0.0, 0.5], 10.0)
    found = cost_of(future, ends, size=0)
    assert found < 1e-3


def test_it_is_not_clairvoyant_and_belongs_to_the_engine_batch() -> None:
    made = get("rollout")
    assert not made.clairvoyant and made.engines == ("batch",) and "slow" in made.summary
    assert "rollout" in names("batch") and "rollout" not in names("continuous")


def test_true_lengths_change_nothing_before_a_batch_has_ended() -> None:
    """Two runs whose true outputs differ decide alike until the first completion."""
    config = system(servers=2, edges=(60,))
    drawn = Workload("azure-conv", requests=200, rate=4.0, predictor="noisy:0.3").draw(0, "validation")
    ready = parse("rollout:futures=4").ready(config)
    first = []
    for outputs in (drawn.output_tokens, drawn.output_tokens[::-1].copy()):
        other = Requests(drawn.arrival_s, drawn.prompt_tokens, outputs, drawn.predicted_tokens, drawn.slo_class)
        log = simulate(ready.config, other, ready.decide, **ready.options, log_batches=True).batches
        until = log["end"].min()
        first.append([(row["choice"], row["size"], row["start"]) for row in log if row["start"] < until])
    shared = min(map(len, first))
    assert shared >= 2 and first[0][:shared] == first[1][:shared]


def test_equal_arguments_give_equal_runs() -> None:
    config = system(servers=2, edges=(60,))
    drawn = Workload("azure-conv", requests=150, rate=4.0, predictor="noisy:0.3").draw(1, "validation")
    ready = parse("rollout:futures=4").ready(config)
    runs = [simulate(ready.config, drawn, ready.decide, **ready.options).requests for _ in range(2)]
    assert runs[0].tobytes() == runs[1].tobytes()


def test_without_a_gain_it_does_what_the_rule_does() -> None:
    """With a caution that nothing overcomes it takes the bin with most requests x time^power, up to the target."""
    asked = Asked("rollout:caution=10:futures=2")
    choice, size = asked((3, 7), batch_time=(1.0, 1.0), num_servers=1, slo_e2e=math.inf, rate_slow=0.0)
    assert (choice, size) == (1, 20)
