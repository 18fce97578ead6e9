"""Traps: what is counted, and how load and arrivals are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched_env.config import SLO, Server, SimConfig
from llmsched_env.core.layout import COMPLETED
from llmsched_env.simulation.metrics import meets_slo, summarize
from llmsched_env.workload import Trace, Workload, bin_edges
from tests.simulator.traps.tools import H100, run

# ---- what is counted


def test_an_slo_below_what_one_request_needs_is_finite_and_counted() -> None:
    """Nobody can meet it: attainment is 0, not undefined, and every arrival is a miss."""
    requests = Workload("azure-conv", requests=2000, rate=2.0).draw(5)
    config = SimConfig((Server(H100),) * 4, slos=(SLO(ttft_s=1e-6, tpot_s=1e-6, e2e_s=1e-6),))
    with pytest.warns(UserWarning, match="is refused"):  # the TPOT target is D too
        for policy in ("static", "dynamic", "aimd", "edf", "least-slack"):
            summary = summarize(run(config, requests, policy))
            assert summary["slo_attainment"] == 0.0
            assert summary["request_goodput"] == 0.0
            assert summary["completed"] == 2000
            assert np.isfinite(summary["mean_e2el_ms"])
            assert summary["mean_batch_size"] > 4.0 or policy == "aimd"  # which backs off to 1, as published


def test_ttft_holds_the_queueing_and_is_no_constant() -> None:
    """The peers report it as a constant (60 ms) or as the whole latency."""
    requests = Workload("azure-conv", requests=5000, rate=2.5).draw(6)
    result = run(SimConfig((Server(H100),) * 4), requests, "static")
    rows, summary = result.requests, summarize(result)
    ttft, wait = rows["first_token"] - rows["arrival"], rows["dispatch"] - rows["arrival"]
    assert wait.mean() > 10.0  # overloaded
    assert (ttft > wait).all()
    assert summary["mean_ttft_ms"] == pytest.approx(1000.0 * ttft.mean())
    assert summary["mean_ttft_ms"] > summary["mean_queue_ms"] > 10_000.0
    prefill = ttft - wait
    assert prefill.max() > 2.0 * prefill.min()
    longer = rows["output"] > 1
    assert (rows["completion"] - rows["arrival"] > ttft)[longer].all()


def test_failed_and_unfinished_requests_stay_in_the_statistics() -> None:
    """Attainment is over all arrivals: what was rejected, dropped or cut off is a miss."""
    requests = Workload("azure-conv", requests=5000, rate=2.5).draw(7)
    target = (SLO(e2e_s=600.0),)
    config = SimConfig((Server(H100, 3000.0),) * 4, slos=target, horizon_s=1500.0)
    result = run(config, requests, "static:batch=32")
    summary, status = summarize(result), result.requests["status"]
    arrived = requests.arrival_s <= 1500.0
    assert summary["rejected"] > 10
    assert summary["unfinished"] > 100
    assert summary["submitted"] == arrived.sum()
    met = meets_slo(result)
    assert not met[status != COMPLETED].any()
    assert summary["slo_attainment"] == met.sum() / arrived.sum()
    assert summary["slo_attainment"] < met.sum() / summary["completed"]


# ---- load and arrivals


def test_the_load_does_not_depend_on_the_number_of_requests() -> None:
    """The peer took the first N rows of its trace: 1,000 requests came 13 times slower than a million."""
    ramp = np.cumsum(1.0 / np.linspace(0.2, 5.0, 3000))  # a trace that starts slowly
    trace = Trace(ramp - ramp[0], np.full(3000, 100, np.int32), np.full(3000, 100, np.int32))
    for source in ("azure-conv", "burstgpt", trace):
        for rate in (None, 2.5):
            rates = {Workload(source, requests=n, rate=rate).mean_rate for n in (50, 1000, 100_000)}
            assert len(rates) == 1
    short = [Workload("azure-conv", requests=300, rate=2.5).draw(seed).arrival_s[-1] for seed in range(400)]
    mean, error = np.mean(short), np.std(short) / math.sqrt(len(short))
    assert error < 0.02 * 120.0
    assert abs(mean - 300 / 2.5) < 4.0 * error  # the rate's slow waves start in their long-run law, not at rest


def test_a_short_draw_is_the_start_of_a_long_one() -> None:
    """More requests are more of the same."""
    short, long = (Workload("azure-conv", requests=n, rate=2.5).draw(8) for n in (500, 50_000))
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "predicted_tokens"):
        assert np.array_equal(getattr(short, name), getattr(long, name)[:500]), name


def test_gaps_of_poisson_arrivals_are_not_capped() -> None:
    """Capped at three means the true rate was 1.052 times the asked one."""
    gaps = np.diff(Workload("poisson", requests=1_000_000, rate=4.0).draw(9).arrival_s) * 4.0
    assert gaps.mean() == pytest.approx(1.0, abs=4.0 / 1000.0)  # four standard errors; the cap would give 0.950
    for multiple in (3.0, 6.0, 9.0):
        share = math.exp(-multiple)
        assert (gaps > multiple).mean() == pytest.approx(share, abs=4.0 * math.sqrt(share / 1e6))


def test_the_wait_of_the_last_is_not_that_of_the_first() -> None:
    """Overload has no steady state: waits grow with N, and are not to be sold as a mean of the system."""
    requests = Workload("azure-conv", requests=20_000, rate=4.0).draw(10)
    rows = run(SimConfig((Server(H100),) * 4), requests, "static").requests
    wait = rows["dispatch"] - rows["arrival"]
    assert wait[-2000:].mean() > 5.0 * wait[:2000].mean() > 0.0


def test_edges_of_few_requests_are_those_of_many() -> None:
    """Bins belong to the workload's law, not to the run: the same edges whatever N."""
    edges = {bin_edges(Workload("azure-conv", requests=n, rate=2.5), 4) for n in (100, 100_000)}
    assert len(edges) == 1
