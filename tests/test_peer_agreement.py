"""Agreement with the public multi-bin simulator where the rules leave no choice.

A static batch of 8 without a memory limit is the same system there and here: first come first served, batches that
run to completion, the profile refitted from its table.  Its totals were measured by running its own `Simulator.run`
on 100,000 requests: the public Azure conversation trace, tiled (each tile shifted by the span plus the mean gap),
its clock compressed 10 times.  Where its rules and ours differ (bins, controllers, memory) there is no agreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from llmsched_env.config import Queueing, Server, SimConfig
from llmsched_env.metrics import summarize
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.result import RunResult
from llmsched_env.simulator import simulate
from llmsched_env.workload import read_trace
from policies import parse

TRACE = Path(__file__).resolve().parents[2] / "shared" / "traces" / "azure_conv_2023.csv"
REQUESTS, COMPRESSION = 100_000, 10.0

pytestmark = pytest.mark.skipif(
    not TRACE.is_file(),
    reason="the Azure conversation trace (CC-BY-4.0, not shipped) is not at ../shared/traces/azure_conv_2023.csv",
)


@dataclass(frozen=True)
class Totals:
    """What the peer reports for one number of servers."""

    servers: int
    mean_s: float
    p99_s: float
    throughput: float  # requests/s
    batches: int


MEASURED = (
    Totals(1, 140_760.0, 276_184.0, 0.35601, 12_501),
    Totals(4, 34_488.0, 67_697.0, 1.42388, 12_504),
    Totals(16, 7_951.0, 15_581.0, 5.68938, 12_519),
)


@cache
def tiled() -> Requests:
    """The trace, end to end until there are enough requests, ten times as fast."""
    trace = read_trace(TRACE)
    tiles = -(-REQUESTS // len(trace))
    period = float(trace.arrival_s[-1]) + trace.mean_gap_s
    arrival = (np.arange(tiles)[:, None] * period + trace.arrival_s).ravel()[:REQUESTS]
    prompt, output = (np.tile(column, tiles)[:REQUESTS] for column in (trace.prompt_tokens, trace.output_tokens))
    return Requests.checked(arrival / COMPRESSION, prompt, output)


def run(servers: int, policy: str, edges: tuple[int, ...] = ()) -> RunResult:
    """The peer's system, without its memory limit (its static batches have none)."""
    fleet = (Server(load_profile("peer-qwen3-1.7b-rtx4080"), np.inf),) * servers
    bound = parse(policy)
    return simulate(bound.configure(SimConfig(fleet, Queueing(edges))), tiled(), bound.decide, **bound.options)


@pytest.mark.parametrize("totals", MEASURED, ids=lambda totals: f"{totals.servers} servers")
def test_static_batches_agree(totals: Totals) -> None:
    """Mean and p99 latency and throughput within 0.1 %; the number of batches exactly."""
    result = run(totals.servers, "static:batch=8")
    summary = summarize(result)
    assert summary["completed"] == REQUESTS
    assert summary["mean_e2el_ms"] / 1000.0 == pytest.approx(totals.mean_s, rel=1e-3)
    assert summary["p99_e2el_ms"] / 1000.0 == pytest.approx(totals.p99_s, rel=1e-3)
    assert summary["request_throughput"] == pytest.approx(totals.throughput, rel=1e-3)
    assert result.lane["batches"] == totals.batches


def test_another_batch_does_not_agree() -> None:
    """The comparison can fail: one request less in a batch is 12 % less throughput."""
    summary = summarize(run(4, "static:batch=7"))
    assert summary["request_throughput"] != pytest.approx(MEASURED[1].throughput, rel=0.05)
