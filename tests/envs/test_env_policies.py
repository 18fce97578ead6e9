"""The environment is the simulator: every scheduler, driven decision by decision through `step`, makes the same run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched.policies import names, parse
from llmsched.policies.registry import Bound
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.core.layout import BIN, COUNTS, LANE, REQUEST, RUNNING_BATCH
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.workload import Workload

H100, A100 = (load_profile(f"{gpu}-80gb_llama2-70b_tp4") for gpu in ("h100", "a100"))
NOISY = dataclasses.replace(H100, noise_sigma=0.3)

SCENARIOS: dict[str, tuple[SimConfig, float]] = {  # and the arrival rate, requests/s
    "alike": (SimConfig((Server(H100),) * 4, Queueing((80, 140, 350))), 2.5),
    "unlike, two classes": (
        SimConfig(
            (Server(H100), Server(A100), Server(A100, 9000.0)),
            Queueing((140,)),
            max_batch=24,
            slos=(SLO(e2e_s=20.0, share=0.5), SLO(ttft_s=2.0, tpot_s=0.05, share=0.5, name="fast")),
        ),
        2.0,
    ),
    "little memory": (SimConfig((Server(H100, 2600.0), Server(H100, 3500.0)), Queueing((80, 140))), 1.0),
    "timers, own release, overhead": (
        SimConfig(
            (Server(H100),) * 2, Queueing((80,), hold_s=1.5, tick_s=2.0), release="own", overhead_s=0.05, horizon_s=90.0
        ),
        1.5,
    ),
    "overdue, little memory": (
        SimConfig(
            (Server(H100, 2600.0), Server(A100, 5000.0)),
            Queueing((80, 140), overdue_factor=1.0, overdue_batch_factor=0.75, hold_s=2.0),
            slos=(SLO(e2e_s=15.0, share=0.5), SLO(ttft_s=4.0, share=0.5, name="fast")),
        ),
        2.0,
    ),
    "refusals and patience": (
        SimConfig(
            (Server(H100, 2600.0), Server(A100, 5000.0)),
            Queueing((80, 140), overdue_factor=1.0, overdue="refuse", patience_s=9.0, queue_cap=20, hold_s=2.0),
            slos=(SLO(e2e_s=25.0, share=0.5), SLO(ttft_s=12.0, share=0.5, name="fast")),
        ),
        4.0,
    ),
    "noise": (SimConfig((Server(NOISY),) * 3, Queueing((80, 140, 350))), 2.5),
}

OURS = {  # what the environment keeps beyond a plain run: the accounts of its rewards, and scratch of its forecasts
    BIN.names: {"cursor", "heap_size"},  # a heap keeps what left until it comes first
    REQUEST.names: {"missed", "next"},
    LANE.names: {"oldest", "final", "past_deadline"},
    COUNTS.names: {"met", "misses", "tardiness", "itl_count", "itl_sum", "itl_sum2"},
    RUNNING_BATCH.names: {"deadline_misses", "tpot_misses"},
}


def draw(config: SimConfig, rate: float) -> Requests:
    """150 requests, of every class that the scenario has."""
    shares = tuple(slo.share for slo in config.slos)
    return Workload("azure-conv", requests=150, rate=rate, slo_shares=shares).draw(5)


def drive(bound: Bound, config: SimConfig, requests: Requests) -> LLMSchedEnv:
    """An episode under ``bound``, asked in Python at every decision about the environment's record."""
    ready = bound.ready(config)
    env = LLMSchedEnv("ansi", simulation=ready.config, requests=len(requests), bins=(0, *config.queueing.edges))
    env.reset(seed=0, options={"requests": requests})
    memory, rng = np.zeros(max(1, ready.memory_size)), np.random.default_rng(0)
    over = False
    while not over:
        choice, size = ready.decide(env.record, ready.params, memory, rng)
        _, _, terminated, truncated, _ = env.step((choice, min(size, ready.config.max_batch)))
        over = terminated or truncated
    return env


def compare(ours: NDArray, theirs: NDArray) -> None:
    """Equal bits in every field but those that only the environment keeps."""
    for field in ours.dtype.names or ():
        if ours[field].dtype.names:
            compare(ours[field], theirs[field])
        elif field not in OURS.get(ours.dtype.names, ()):
            np.testing.assert_array_equal(ours[field], theirs[field], err_msg=field)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", names("batch"))
def test_environment_equals_compiled_run(name: str, scenario: str) -> None:
    """Same decisions, same batches, same stamps, same controllers, bit for bit."""
    bound, (config, rate) = parse(name), SCENARIOS[scenario]
    requests = draw(config, rate)
    env = drive(bound, config, requests)
    simulator, lane = env._lanes.simulator, env._lanes.simulator.lane[0]
    ready = bound.ready(config)
    run = simulate(
        ready.config,
        requests,
        ready.decide,
        **ready.options,
        log_batches=True,
        noise_key=int(lane["noise_key"]),
    )
    assert run.counts["decisions"] == lane["counts"]["decisions"] > 5
    np.testing.assert_array_equal(simulator.log[0][: lane["counts"]["logged"]], run.batches)
    simulator.finish()
    compare(simulator.requests[0][:150], run.requests)
    compare(simulator.servers[0], run.servers)
    compare(simulator.bins[0], run.bins)
    compare(np.atleast_1d(lane), np.atleast_1d(run.lane))


def test_the_scenarios_have_corners() -> None:
    """Timers fire, memory overflows, noise is drawn: what the comparison above is about does happen."""
    seen = {}
    for name in SCENARIOS:
        config, rate = SCENARIOS[name]
        env = drive(parse("timeout:batch=16"), config, draw(config, rate))
        seen[name] = env._lanes.simulator.lane[0].copy()
    assert seen["little memory"]["counts"]["preempted"] > 0 and seen["little memory"]["counts"]["rejected"] > 0
    assert seen["timers, own release, overhead"]["counts"]["waits"] > 5
    assert seen["noise"]["noise_key"] > 0
    assert seen["overdue, little memory"]["counts"]["preempted"] > 0
    assert seen["refusals and patience"]["counts"]["refused"] > 5 < seen["refusals and patience"]["counts"]["abandoned"]
    assert seen["alike"]["counts"]["completed"] == 150
