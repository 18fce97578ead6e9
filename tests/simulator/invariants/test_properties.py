"""What must hold in every run, whatever the policy answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsched.policies import names
from llmsched_env.config import Controller, Queueing, Server, SimConfig
from tests.simulator.invariants.checks import check_all, check_work_conservation
from tests.simulator.invariants.tools import BLOOM, COMMON, H100, loaded, run, run_script
from tests.simulator.test_parity import configs, script, workloads


@settings(COMMON, max_examples=250)
@given(st.data())
def test_whatever_is_decided(data: st.DataObject) -> None:
    """Random decisions in random systems: waits, empty bins, preemptions, drops, horizons."""
    config, requests = data.draw(configs()), data.draw(workloads())
    check_all(run_script(config, requests, script(data.draw, config)))


@settings(COMMON, max_examples=150)
@given(st.data())
def test_whatever_coincides(data: st.DataObject) -> None:
    """The same where events coincide."""
    config, requests = data.draw(configs(lattice=True)), data.draw(workloads(lattice=True))
    check_all(run_script(config, requests, script(data.draw, config)))


MEMORY = SimConfig((Server(BLOOM, 6000.0), Server(BLOOM, 8000.0)), controller=Controller(tbt_s=0.1))


@pytest.mark.parametrize("policy", names("batch"))
def test_every_policy_on_many_requests(policy: str) -> None:
    """The default scenario, and one whose memory runs out, cut off by a horizon; fewer where a decision is slow."""
    requests, edges = loaded(requests=11_000) if policy == "rollout" else loaded()
    default = SimConfig((Server(H100),) * 4, Queueing(edges))
    check_all(run(default, requests, policy))
    memory = dataclasses.replace(MEMORY, queueing=Queueing(edges), horizon_s=4000.0)
    result = run(memory, requests, policy)
    check_all(result)
    assert result.counts["rejected"] > 0
    assert result.lane["waiting"] + result.lane["in_service"] > 0


def test_the_memory_scenario_has_every_fate() -> None:
    """What the tests above are about does happen in them."""
    requests, edges = loaded()
    result = run(dataclasses.replace(MEMORY, queueing=Queueing(edges)), requests, "static:batch=64")
    for name, least in (("completed", 10_000), ("preempted", 500), ("rejected", 10), ("dropped", 1)):
        assert result.counts[name] >= least, name
    assert (result.servers["peak_ever"] > [5990.0, 7990.0]).all()


@pytest.mark.parametrize("lattice", [False, True])
@settings(COMMON, max_examples=100)
@given(st.data())
def test_static_is_work_conserving(lattice: bool, data: st.DataObject) -> None:
    """Without a memory limit a free server takes what waits, at once; also where arrivals and ends coincide."""
    config, requests = data.draw(configs(lattice, preemptions=False)), data.draw(workloads(lattice))
    config = dataclasses.replace(config, horizon_s=np.inf)
    check_work_conservation(run(config, requests, "static:batch=2"))


@pytest.mark.parametrize("policy", ["static", "dynamic", "multibin", "longest-queue", "sjf", "random"])
def test_work_conservation_on_many_requests(policy: str) -> None:
    """The same at light and heavy load, for every scheduler that never waits."""
    for rate in (0.3, 2.5):
        requests, edges = loaded(rate=rate)
        check_work_conservation(run(SimConfig((Server(H100, np.inf),) * 4, Queueing(edges)), requests, policy))


def test_a_waiting_policy_fails_the_check() -> None:
    """The check of work conservation can fail: `timeout` leaves servers idle."""
    requests, edges = loaded(rate=0.3)
    with pytest.raises(AssertionError):
        check_work_conservation(run(SimConfig((Server(H100, np.inf),) * 4, Queueing(edges)), requests, "timeout"))
