"""Traps: batch sizes that stay small, targets that cannot be met."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from llmsched_env.config import Controller, Server, SimConfig
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.templates import safe_tbt_s
from llmsched_env.workload import Workload
from tests.simulator.traps.tools import H100, INF, run


def test_the_controller_recovers_after_a_quiet_spell() -> None:
    """Ten quiet minutes, then a burst: a small batch must not stay small (the peer's stayed at one: p99 3,329 s)."""
    rng = np.random.default_rng(0)
    quiet, burst = 600.0 * np.sort(rng.random(120)), 600.0 + 600.0 * np.sort(rng.random(3600))
    arrival = np.concatenate([quiet, burst])
    n = len(arrival)
    requests = Requests.checked(arrival, np.full(n, 200), rng.integers(50, 150, n))
    result = run(SimConfig((Server(H100),), controller=Controller(tbt_s=0.05)), requests, "dynamic")
    before = result.batches[result.batches["start"] < 600.0]
    after = result.batches[(result.batches["start"] > 700.0) & (result.batches["start"] < 1200.0)]
    assert before["size"].mean() < 2
    assert after["size"].mean() > 30
    assert summarize(result)["p99_e2el_ms"] < 30_000.0


def test_the_controller_recovers_from_batches_that_were_too_slow() -> None:
    """Long prompts push the target down, short ones let it up again: outside the band there is no ratchet."""
    rng = np.random.default_rng(1)
    heavy, light = 600, 20_000
    n = heavy + light
    prompt = np.concatenate([np.full(heavy, 6000), np.full(light, 20)])
    requests = Requests.checked(np.linspace(0.0, 1.0, n), prompt, rng.integers(50, 100, n))
    config = SimConfig((Server(H100, INF),), controller=Controller(tbt_s=0.05))
    batches = run(config, requests, "dynamic").batches
    served = np.cumsum(batches["size"])
    slow, late = batches["size"][(served > 300) & (served < heavy)], batches["size"][served > n - 2000]
    assert slow.max() < 40
    assert np.median(late) > 2 * slow.max()


def test_a_target_below_what_one_request_needs_is_replaced_and_said() -> None:
    """Inside a band around tau(1) any small batch reproduces itself: such a D is refused, with both numbers."""
    one = (H100.decode_step_ms(1, 1)) / 1000.0
    config = SimConfig((Server(H100),), controller=Controller(tbt_s=one))
    requests = Workload("azure-conv", requests=2000, rate=2.0).draw(0)
    with pytest.warns(UserWarning, match="target time between tokens .* is refused.* is used"):
        run(config, requests, "dynamic")
    with pytest.warns(UserWarning):
        assert safe_tbt_s(config) == pytest.approx(one + 0.002, rel=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(dataclasses.replace(config, controller=Controller(tbt_s=one + 0.002)), requests, "dynamic")


@pytest.mark.parametrize(
    ("eta", "tbt_s"), [(8000.0, 0.2), (INF, 0.034)], ids=["the memory target", "the latency target"]
)
def test_decodes_of_other_servers_do_not_raise_the_target(eta: float, tbt_s: float) -> None:
    """The peer's floor was what the whole cluster decodes: with 16 servers it switched both papers' rules off."""
    workload = Workload("azure-conv", requests=20_000, rate=100.0)
    sizes = {}
    for servers in (1, 16):
        config = SimConfig((Server(H100, eta),) * servers, controller=Controller(tbt_s=tbt_s))
        result = run(config, workload.draw(2), "dynamic")
        steady = result.batches[len(result.batches) // 5 : -len(result.batches) // 5]
        sizes[servers] = steady["size"].mean()
    assert sizes[1] < 20
    assert sizes[16] < 1.3 * sizes[1]


def test_the_peer_controller_is_another_one() -> None:
    """An option that changes nothing is a lie."""
    requests = Workload("azure-conv", requests=5000, rate=20.0).draw(2)
    runs = [
        run(SimConfig((Server(H100, 8000.0),) * 4, controller=Controller(tbt_s=0.034, kind=kind)), requests, "dynamic")
        for kind in ("paper", "peer")
    ]
    assert runs[0].batches.tobytes() != runs[1].batches.tobytes()
