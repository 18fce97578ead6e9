"""Agreement with other simulators where the rules leave no choice: a public one, and the plain-Python loop of the
benchmark.

A static batch of 8 without a memory limit is the same system in the public multi-bin simulator and here: first come
first served, batches that run to completion, the profile refitted from its table.  Its totals were measured by running
its own `Simulator.run` on 100,000 requests: the public Azure conversation trace, tiled (each tile shifted by the span
plus the mean gap), its clock compressed 10 times.  Where the rules differ (bins, controllers, memory) there is no
agreement to ask for.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval import bench
from llmsched.eval.speed.kernel import LOADS, PAPER_POLICIES, bench_scenario, check_python, with_requests
from llmsched.eval.speed.python_loop import PythonLoop
from llmsched.policies import parse
from llmsched_env.config import Queueing, Server, SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload import read_trace

TRACE = Path(__file__).resolve().parents[3] / "shared" / "traces" / "azure_conv_2023.csv"
REQUESTS, COMPRESSION = 100_000, 10.0

needs_trace = pytest.mark.skipif(
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
    ready = parse(policy).ready(SimConfig(fleet, Queueing(edges)))
    return simulate(ready.config, tiled(), ready.decide, **ready.options)


@needs_trace
@pytest.mark.parametrize("totals", MEASURED, ids=lambda totals: f"{totals.servers} servers")
def test_static_batches_agree(totals: Totals) -> None:
    """Mean and p99 latency and throughput within 0.1 %; the number of batches exactly."""
    result = run(totals.servers, "static:batch=8")
    summary = summarize(result)
    assert summary["completed"] == REQUESTS
    assert summary["mean_e2el_ms"] / 1000.0 == pytest.approx(totals.mean_s, rel=1e-3)
    assert summary["p99_e2el_ms"] / 1000.0 == pytest.approx(totals.p99_s, rel=1e-3)
    assert summary["request_throughput"] == pytest.approx(totals.throughput, rel=1e-3)
    assert result.counts["batches"] == totals.batches


@needs_trace
def test_another_batch_does_not_agree() -> None:
    """The comparison can fail: one request less in a batch is 12 % less throughput."""
    summary = summarize(run(4, "static:batch=7"))
    assert summary["request_throughput"] != pytest.approx(MEASURED[1].throughput, rel=0.05)


@pytest.mark.parametrize("rate", LOADS.values(), ids=LOADS.keys())
def test_the_plain_python_loop_of_the_benchmark_agrees(rate: float) -> None:
    """An event loop of a hundred lines, written for speed alone, gives every stamp of the kernel to 1e-9."""
    scenario = bench_scenario().at_rate(rate)
    requests = with_requests(scenario, 5000).draw(3)
    check_python(scenario, requests)
    longer = dataclasses.replace(requests, output_tokens=requests.output_tokens + 1)
    theirs = PythonLoop(scenario.config, longer, 8).run()
    assert not np.allclose(theirs.completion, PythonLoop(scenario.config, requests, 8).run().completion, rtol=1e-9)


def test_the_plain_python_loop_refuses_what_it_cannot_do() -> None:
    """It has has no preemption and knows one latency form: it says so, and nothing is timed."""
    scenario = bench_scenario()
    requests = with_requests(scenario, 500).draw(0)
    small = dataclasses.replace(scenario.config, servers=(Server(scenario.config.servers[0].profile, 3000.0),))
    with pytest.raises(ValueError, match="has no preemption"):
        PythonLoop(small, requests, 8).run()
    other = dataclasses.replace(scenario.config, servers=(Server(load_profile("ideal")),))
    with pytest.raises(ValueError, match="form split"):
        PythonLoop(other, requests, 8)


def test_the_benchmark_prints_a_table_and_keeps_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small run of `make bench`: every row has a figure, ratios are to the anchor in the same run."""
    options = ["--only", "kernel", "--requests", "2000", "--repeats", "1", "--json", str(tmp_path / "b.json")]
    assert bench.main(options) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "b.json").read_text())
    assert {row["name"].partition(",")[0] for row in found["rows"]} == {*PAPER_POLICIES, "plain-Python loop"}
    for row in found["rows"]:
        assert row["value"] > 0
        assert row["name"] in printed
        assert row["ratio"] is None or row["ratio"] == pytest.approx(row["value"] / row["anchor"])
    assert str(found["machine"]["cores"]) in printed
    with pytest.raises(SystemExit) as refused:
        bench.main(["--only", "kernels"])
    assert refused.value.code == 2
