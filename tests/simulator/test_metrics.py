"""Metrics against numbers worked out by hand, and the streaming accumulator against the exact summary."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.core.layout import (
    BATCH,
    BIN,
    COMPLETED,
    DROPPED,
    IN_SERVICE,
    ITL_BINS,
    ITL_LOW_S,
    ITL_RATIO,
    LANE,
    PENDING,
    REJECTED,
    REQUEST,
    SERVER,
    WAITING,
)
from llmsched_env.profiles import Profile
from llmsched_env.simulation.metrics import (
    CACHE_KEYS,
    KEYS,
    Accumulator,
    histogram_quantile,
    jain_index,
    log_bin_ends,
    meets_slo,
    summarize,
)
from llmsched_env.simulation.result import RunResult

NAN = math.nan
PROFILE = Profile("made-up", "batch-length", {"a": 1.0, "beta": 1.0, "g": 0.0}, 100.0)
SLOS = (SLO(ttft_s=1.0, tpot_s=0.5, e2e_s=5.0, share=0.5), SLO(e2e_s=20.0, share=0.5, name="patient"))

# arrival, prompt, output, bin, class, status, dispatch, first token, last token, completion, preemptions
SIX = [
    (0.0, 10, 5, 0, 0, COMPLETED, 0.25, 1.0, 3.0, 4.0, 0),  # TTFT 1, TPOT 0.5, E2E 4: all at or under: met
    (1.0, 20, 1, 0, 0, COMPLETED, 1.0, 1.5, 1.5, 4.0, 0),  # one token: TPOT undefined, met
    (2.0, 30, 3, 1, 0, COMPLETED, 2.5, 2.75, 4.0, 4.0, 2),  # TPOT 0.625: missed
    (3.0, 40, 2, 1, 1, COMPLETED, 9.0, 10.0, 11.0, 13.0, 0),  # patient class, E2E 10: met
    (4.0, 500, 2, 1, 0, REJECTED, NAN, NAN, NAN, NAN, 0),
    (5.0, 90, 50, 1, 1, DROPPED, 6.0, 7.0, NAN, NAN, 1),
    (6.0, 10, 9, 0, 1, WAITING, NAN, NAN, NAN, NAN, 0),  # waits since 10 s when the run ends at 16 s
    (7.0, 10, 9, 0, 1, IN_SERVICE, 13.0, 14.0, NAN, NAN, 0),
    (99.0, 10, 9, 0, 1, PENDING, NAN, NAN, NAN, NAN, 0),  # had not arrived: not submitted
]
FIELDS = ["arrival", "prompt", "output", "bin", "slo_class", "status", "dispatch", "first_token", "last_token"]


def made_up(rows: list[tuple], *, warmup: int = 0, gaps: tuple[float, ...] = ()) -> RunResult:
    """A run that ended at 16 s on one server, with these records and these gaps between tokens."""
    requests = np.zeros(len(rows), REQUEST)
    for field, values in zip([*FIELDS, "completion", "preemptions"], zip(*rows, strict=True), strict=True):
        requests[field] = values
    lane, servers = np.zeros(1, LANE)[0], np.zeros(1, SERVER)
    lane["now"], counts = 16.0, lane["counts"]
    counts["decisions"], counts["launched"], counts["batches"] = 7, 6, 4
    servers["busy_s"], servers["peak_ever"] = 12.0, 75.0
    histogram = np.zeros(ITL_BINS, np.int64)
    for gap in gaps:
        histogram[math.ceil(math.log(gap / ITL_LOW_S) / math.log(ITL_RATIO))] += 1
    counts["itl_count"], counts["itl_sum"], counts["itl_sum2"] = len(gaps), sum(gaps), sum(g * g for g in gaps)
    config = SimConfig((Server(PROFILE, 100.0),), Queueing(edges=(64,)), slos=SLOS)
    return RunResult(config, requests, np.zeros(0, BATCH), np.zeros(3, BIN), servers, lane, histogram, 0.5, warmup)


def test_every_request_is_accounted_for():
    found = summarize(made_up(SIX))
    assert {k: found[k] for k in ("submitted", "completed", "rejected", "dropped", "unfinished", "preemptions")} == {
        "submitted": 8,
        "completed": 4,
        "rejected": 1,
        "dropped": 1,
        "unfinished": 2,
        "preemptions": 3,
    }


def test_slo_is_met_by_those_that_meet_every_target_of_their_class():
    assert meets_slo(made_up(SIX)).tolist() == [True, True, False, True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("column", "value"), [(7, 1.0 + 1e-9), (8, 3.0 + 1e-9), (9, 5.0 + 1e-9)], ids=["ttft", "tpot", "e2e"]
)
def test_each_target_alone_makes_a_miss(column: int, value: float):
    row = list(SIX[0])
    row[column] = value
    assert not meets_slo(made_up([tuple(row)]))[0]


def test_a_sum_that_rounds_onto_the_deadline_is_met():
    row = (16.7, 1, 2, 0, 1, COMPLETED, 17.0, 18.0, 19.0, 16.7 + 20.0, 0)  # 36.7 - 16.7 is 20.000000000000004
    assert meets_slo(made_up([row]))[0]


def test_shares_and_rates_have_the_stated_denominators():
    found = summarize(made_up(SIX))
    assert found["duration_s"] == 13.0  # first arrival 0 to last completion 13, though the run ends at 16
    assert found["slo_attainment"] == 3 / 8
    assert found["request_goodput"] == 3 / 13
    assert found["request_throughput"] == 4 / 13
    assert found["output_throughput"] == 11 / 13
    assert found["total_token_throughput"] == 111 / 13
    assert found["mean_queue_ms"] == pytest.approx(1000 * (0.25 + 0 + 0.5 + 6) / 4)
    assert found["mean_batch_size"] == 1.5
    assert found["gpu_utilization"] == 12 / 16
    assert found["peak_kv_utilization"] == 0.75
    assert (found["decisions"], found["simulated_s"], found["wall_s"]) == (7, 16.0, 0.5)


def test_latency_statistics_are_over_completed_requests():
    found = summarize(made_up(SIX))
    ttft = [1000.0, 500.0, 750.0, 7000.0]
    assert found["mean_ttft_ms"] == pytest.approx(2312.5)
    assert found["median_ttft_ms"] == pytest.approx(875.0)
    assert found["std_ttft_ms"] == pytest.approx(np.std(ttft))
    assert found["p95_ttft_ms"] == pytest.approx(1000 + 0.85 * 6000)  # rank 0.95 * 3 = 2.85
    assert found["mean_tpot_ms"] == pytest.approx((500 + 625 + 1000) / 3)  # without the single token
    assert found["median_e2el_ms"] == pytest.approx(3500)  # 4, 3, 2, 10 s
    assert found["p99_e2el_ms"] == pytest.approx(4000 + 0.97 * 6000)


def test_gaps_between_tokens_are_pooled():
    found = summarize(made_up(SIX, gaps=(0.02, 0.02, 0.02, 0.1)))
    assert found["mean_itl_ms"] == pytest.approx(40.0)
    assert found["std_itl_ms"] == pytest.approx(np.std([20, 20, 20, 100]))
    assert found["median_itl_ms"] == pytest.approx(20.0, rel=0.005)
    assert found["p99_itl_ms"] == pytest.approx(20.0 + 0.97 * 80.0, rel=0.005)  # rank 0.99 * 3 = 2.97


def test_fairness_is_per_bin_of_submitted_requests():
    found = summarize(made_up(SIX))
    assert found["per_bin"] == [
        {"bin": 0, "submitted": 4, "misses": 2, "miss_rate": 0.5},
        {"bin": 1, "submitted": 4, "misses": 3, "miss_rate": 0.75},
    ]
    assert (found["worst_bin"], found["worst_bin_miss_rate"]) == (1, 0.75)
    assert found["jain_index"] == pytest.approx((0.5 + 0.25) ** 2 / (2 * (0.25 + 0.0625)))
    assert found["longest_wait_ms"] == 10_000.0  # the one never dispatched


def test_jain_index_runs_from_one_over_n_to_one():
    assert jain_index(np.array([0.3, 0.3, 0.3])) == pytest.approx(1.0)
    assert jain_index(np.array([0.0, 0.9, 0.0])) == pytest.approx(1 / 3)
    assert math.isnan(jain_index(np.zeros(3)))


def test_the_warm_up_is_not_scored():
    whole, late = summarize(made_up(SIX, warmup=2)), summarize(made_up(SIX[2:]))
    for key in ("submitted", "completed", "slo_attainment", "mean_ttft_ms", "duration_s", "per_bin", "request_goodput"):
        assert whole[key] == late[key], key
    assert whole["gpu_utilization"] == 12 / 16  # of the whole run, which began at 0


def test_a_run_in_which_nothing_completed_has_undefined_latencies():
    found = summarize(made_up(SIX[4:8]))
    assert (found["completed"], found["slo_attainment"], found["request_goodput"]) == (0, 0.0, 0.0)
    assert math.isnan(found["mean_ttft_ms"]) and math.isnan(found["p99_e2el_ms"]) and math.isnan(found["mean_itl_ms"])


def test_summary_has_exactly_the_documented_keys():
    assert tuple(summarize(made_up(SIX))) == KEYS
    text = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    documented = set(re.findall(r"`([a-z0-9_]+)`", text))
    assert [key for key in (*KEYS, *CACHE_KEYS) if key not in documented] == []


def many(n: int) -> list[tuple]:
    """Completed requests with latencies over five decades, one in ten of a single token."""
    rng = np.random.default_rng(3)
    arrival = np.sort(rng.uniform(0, 10, n))
    ttft, decode = rng.lognormal(-3, 2, n), rng.lognormal(0, 2, n)
    output = np.where(rng.random(n) < 0.1, 1, rng.integers(2, 500, n))
    rows = []
    for a, t, d, o in zip(arrival, ttft, decode, output, strict=True):
        last = a + t + (d if o > 1 else 0.0)
        rows.append((a, 7, o, int(o > 64), int(o) % 2, COMPLETED, a + t / 2, a + t, last, last + 0.01, 0))
    return rows


def test_accumulator_agrees_with_the_exact_summary_within_a_bin():
    rows = many(3000)
    exact, chunked = summarize(made_up(rows, warmup=100)), Accumulator()
    for start in range(0, 3000, 700):
        chunk = made_up(rows[start : start + 700], warmup=100 if start == 0 else 0)
        chunked.add(replace(chunk, wall_s=0.1))
    found = chunked.summary()
    for key, value in exact.items():
        if key.startswith(("median", "p95", "p99")) and not key.endswith("itl_ms"):
            assert found[key] == pytest.approx(value, rel=0.005), key
        elif isinstance(value, float) and not key.endswith("itl_ms"):
            assert found[key] == pytest.approx(value, rel=1e-12), key
        elif isinstance(value, (int, list)):
            assert found[key] == value, key
    assert found["wall_s"] == pytest.approx(0.5)


def test_accumulator_of_one_chunk_has_the_exact_moments():
    rows = many(500)
    whole = Accumulator()
    whole.add(made_up(rows))
    found, exact = whole.summary(), summarize(made_up(rows))
    assert found["std_e2el_ms"] == pytest.approx(exact["std_e2el_ms"], rel=1e-12)


def test_accumulator_without_a_chunk_says_so():
    with pytest.raises(ValueError, match="at least once"):
        Accumulator().summary()


def test_histogram_quantile_of_known_values():
    values = np.geomspace(0.001, 10.0, 1001)
    counts = np.bincount(np.searchsorted(log_bin_ends(), values), minlength=ITL_BINS)
    for share in (0.0, 0.25, 0.5, 0.99, 1.0):
        assert histogram_quantile(counts, share) == pytest.approx(np.percentile(values, 100 * share), rel=0.005)
    assert math.isnan(histogram_quantile(np.zeros(ITL_BINS, np.int64), 0.5))


def test_histogram_quantile_between_values_far_apart():
    counts = np.zeros(ITL_BINS, np.int64)
    counts[np.searchsorted(log_bin_ends(), [0.001, 1.0, 8.0])] = 1
    assert histogram_quantile(counts, 0.75) == pytest.approx(4.5, rel=0.005)
