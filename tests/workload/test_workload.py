"""Workloads: the laws of arrivals and lengths, replay of traces, and what a seed fixes."""

from __future__ import annotations

import dataclasses
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from llmsched_env.requests import Requests
from llmsched_env.workload import Trace, Workload, generator_names, load_generator, read_trace, streams
from llmsched_env.workload.arrivals import CoxArrivals, GammaFactor, OnOff, gamma_quantile_table, interpolate
from llmsched_env.workload.replay import replayed_gap_s

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
FIELDS = [name for name, value in vars(Workload(requests=1).draw(0)).items() if isinstance(value, np.ndarray)]
REPLICATIONS = 60
SINGLE = [name for name in generator_names() if name != "coding-agent"]
"""Generators whose requests are no sessions."""
MODULATED = ["azure-conv", "azure-code", "burstgpt"]


def columns(requests):
    return {name: getattr(requests, name) for name in FIELDS}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(columns(a).values(), columns(b).values(), strict=True))


def counts(arrival, window, duration):
    return np.bincount((arrival / window).astype(int), minlength=int(duration / window))[: int(duration / window)]


# --- arrivals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_the_long_run_rate_is_the_asked_rate(name):
    """A 99.9 % Student interval over seeds, of runs long against every time constant, covers the rate."""
    rate, duration = (0.05, 1_000_000.0) if name == "burstgpt" else (4.0, 10_000.0)
    rates = [len(Workload(name, duration_s=duration, rate=rate).draw(seed)) / duration for seed in range(30)]
    half = stats.t.ppf(0.9995, 29) * np.std(rates, ddof=1) / np.sqrt(30)
    assert abs(np.mean(rates) - rate) < half
    assert half < 0.1 * rate


@pytest.mark.parametrize("name", MODULATED)
def test_dispersion_of_counts_is_that_of_the_fit(name):
    """The median over runs of the trace's length lies near the fit's published median, at every window."""
    published = load_generator(name).meta["validation"]["arrival"]
    duration = load_generator(name).meta["provenance"]["duration_s"]
    runs = [Workload(name, duration_s=duration).draw(seed).arrival_s for seed in range(REPLICATIONS)]
    for window, median, low, high in zip(
        *(published[k] for k in ("windows_s", "idc_syn_median", "idc_syn_p10", "idc_syn_p90")), strict=True
    ):
        per_run = [(c := counts(run, window, duration)).var(ddof=1) / c.mean() for run in runs]
        slack = 4 * 1.25 * (high - low) / 2.56 / math.sqrt(REPLICATIONS)  # four standard errors of a median
        assert abs(np.median(per_run) - median) < 2 * slack, (window, np.median(per_run), median)


@pytest.mark.parametrize("name", ["poisson", "mooncake-conv", "uniform"])
def test_poisson_arrivals_have_dispersion_one_and_exponential_gaps(name):
    arrival = Workload(name, requests=50_000, rate=5.0).draw(1).arrival_s
    assert stats.kstest(np.diff(arrival) * 5.0, "expon").pvalue > 1e-3
    for window in (1, 10, 60):
        c = counts(arrival, window, arrival[-1])
        assert abs(c.var() / c.mean() - 1) < 5 * math.sqrt(2 / len(c))


@pytest.mark.parametrize(("shape", "cv"), [(0.25, 2.0), (1.0, 1.0), (4.0, 0.5), (math.inf, 0.0)])
def test_burstiness_is_the_gamma_shape_of_the_gaps(shape, cv):
    gaps = np.diff(Workload("gamma", requests=40_000, rate=3.0, burstiness=shape).draw(2).arrival_s)
    assert gaps.mean() == pytest.approx(1 / 3, rel=5 * cv / 200 + 1e-9)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.08, abs=1e-9)
    if shape < math.inf:
        assert stats.kstest(gaps * 3 * shape, "gamma", args=(shape,)).pvalue > 1e-3


def test_burstiness_replaces_the_arrivals_of_any_generator_and_keeps_its_lengths():
    own, gamma = (Workload("azure-conv", requests=500, burstiness=b).draw(0) for b in (None, 0.5))
    assert not np.array_equal(own.arrival_s, gamma.arrival_s)
    assert np.array_equal(own.output_tokens, gamma.output_tokens)


@pytest.mark.parametrize("var", [0.0128, 0.044, 0.63, 0.79, 2.68])
def test_factors_have_gamma_marginals_of_mean_one(var):
    table = gamma_quantile_table(var)
    x = np.linspace(-5, 5, 4001) + 1e-4
    exact = stats.gamma.ppf(stats.norm.cdf(x), 1 / var, scale=var)
    looked_up = np.array([interpolate(table, v) for v in x])
    assert looked_up == pytest.approx(exact, rel=2e-3, abs=1e-4)
    weight = stats.norm.pdf(x)
    mean = (looked_up * weight).sum() / weight.sum()
    assert mean == pytest.approx(1.0, abs=2e-4)
    assert ((looked_up - mean) ** 2 * weight).sum() / weight.sum() == pytest.approx(var, rel=2e-3)


def test_dispersion_of_one_factor_is_the_closed_form():
    """IDC(w) = 1 + 2 r C/w with C = integral over (w - u) of the covariance; a small variance makes it exponential."""
    var, tau, rate, window = 0.05, 20.0, 5.0, 100.0
    arrivals = CoxArrivals(rate, (GammaFactor(var, tau),), None, np.random.default_rng(3))
    c = counts(times := arrivals.take(2_000_000), window, times[-1])
    integral = tau * window - tau**2 * (1 - math.exp(-window / tau))
    expected = 1 + 2 * rate * var * integral / window
    assert c.var() / c.mean() == pytest.approx(expected, rel=5 * math.sqrt(2 / (len(c) / 2)))


def test_on_off_has_its_share_of_silence():
    envelope = OnOff(10.0, 0.5, 30.0, 1.0)
    times = CoxArrivals(20.0, (), envelope, np.random.default_rng(1)).take(400_000)
    gaps = np.diff(times)
    silent = gaps[gaps > 1.0]  # at 80 requests/s while ON no other gap is so long
    cycles = times[-1] / 40
    assert len(silent) == pytest.approx(cycles * math.exp(-1 / 30), rel=5 / math.sqrt(cycles))
    assert silent.sum() / times[-1] == pytest.approx(0.75, abs=0.05)


# --- lengths ----------------------------------------------------------------------------------------------


def test_uniform_lengths_are_the_theorems():
    drawn = Workload("uniform", requests=100_000).draw(0)
    assert (drawn.prompt_tokens == 1).all()
    observed = np.bincount(drawn.output_tokens, minlength=1001)[1:]
    assert len(observed) == 1000
    assert stats.chisquare(observed).pvalue > 1e-3


@pytest.mark.parametrize("name", ["poisson", "gamma"])
def test_stated_length_laws_hold(name):
    drawn = Workload(name, requests=100_000).draw(0)
    for values, mean in ((drawn.prompt_tokens, 512), (drawn.output_tokens, 256)):
        assert values.mean() == pytest.approx(mean, rel=0.02)
        assert values.std() / values.mean() == pytest.approx(1.0, abs=0.05)
    assert abs(float(stats.spearmanr(drawn.prompt_tokens, drawn.output_tokens).statistic)) < 0.02


@pytest.mark.parametrize("name", SINGLE)
def test_lengths_stay_within_their_caps(name):
    raw = load_generator(name)
    drawn = Workload(name, requests=200_000).draw(0)
    assert drawn.prompt_tokens.min() >= 1 and drawn.output_tokens.min() >= 1
    assert drawn.output_tokens.max() <= raw.lengths.output_max == Workload(name, requests=1).output_cap
    assert drawn.prompt_tokens.max() <= getattr(raw.lengths, "prompt_max", 1)


@pytest.mark.parametrize(
    ("name", "file"),
    [("azure-conv", "azure_conv_2023.csv"), ("mooncake-conv", "mooncake_conv.csv"), ("burstgpt", "burstgpt_slice.csv")],
)
def test_lengths_are_near_the_real_trace(name, file):
    if not (TRACES / file).is_file():
        pytest.skip(f"the real trace {file} is not shipped with the project and not beside this checkout")
    real = read_trace(TRACES / file)
    drawn = Workload(name, requests=100_000).draw(0)
    noise = 1.63 / math.sqrt(len(real))
    for column in ("prompt_tokens", "output_tokens"):
        a, b = getattr(drawn, column), getattr(real, column)
        assert stats.ks_2samp(a, b).statistic < 0.035 + noise
        assert a.mean() == pytest.approx(b.mean(), rel=0.02 + 3 * b.std() / b.mean() / math.sqrt(len(b)))


# --- seeds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", generator_names())
def test_same_seed_same_bytes_other_seed_or_split_other_bytes(name):
    workload = Workload(name, requests=300, slo_shares=(0.5, 0.5))
    first = workload.draw(0)
    assert same(first, workload.draw(0)) and same(first, pickle.loads(pickle.dumps(workload)).draw(0))
    assert not np.array_equal(first.arrival_s, workload.draw(1).arrival_s)
    assert not np.array_equal(first.arrival_s, workload.draw(0, "validation").arrival_s)


def test_the_same_bytes_in_another_process():
    code = "from llmsched_env.workload import Workload as W; print(W(requests=500).draw(7).arrival_s.tobytes().hex())"
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == Workload(requests=500).draw(7).arrival_s.tobytes().hex()


@pytest.mark.parametrize("source", ["azure-code", "trace"])
@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"predictor": "oracle"}, {"predicted_tokens"}),
        ({"predictor": "prompt-only"}, {"predicted_tokens"}),
        ({"slo_shares": (0.3, 0.7)}, {"slo_class"}),
        ({"rate": 9.0}, {"arrival_s"}),
    ],
)
def test_an_option_moves_its_own_column_only(source, change, moved):
    base = Workload(saw_tooth() if source == "trace" else source, requests=400)
    a, b = columns(base.draw(3)), columns(dataclasses.replace(base, **change).draw(3))
    assert {name for name in FIELDS if not np.array_equal(a[name], b[name])} == moved


@pytest.mark.parametrize("chunk", [1, 7, 1000, 10_000])
@pytest.mark.parametrize("end", [{"requests": 1500}, {"duration_s": 300.0}])
@pytest.mark.parametrize("source", ["azure-conv", "azure-code", "gamma", "uniform", "trace"])
def test_pieces_of_any_size_are_the_whole(source, end, chunk):
    workload = Workload(saw_tooth() if source == "trace" else source, slo_shares=(0.2, 0.8), **end)
    if chunk == 1:
        workload = dataclasses.replace(workload, requests=100)
    whole, parts = workload.draw(4), list(workload.chunks(4, chunk))
    assert max(len(part) for part in parts) <= chunk
    for name, column in columns(whole).items():
        assert np.array_equal(column, np.concatenate([getattr(part, name) for part in parts])), name
    assert (np.diff(whole.arrival_s) >= 0).all()


def test_streams_are_independent_of_each_other_and_of_the_split():
    first = {(split, name): rng.random() for split in ("test", "validation") for name, rng in streams(0, split).items()}
    assert len(set(first.values())) == len(first) == 18


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match=r"seed=.* is not allowed: give a whole number of at least 0"):
        Workload(requests=1).draw(seed)


def test_classes_come_in_their_shares():
    classes = Workload("uniform", requests=50_000, slo_shares=(0.1, 0.0, 0.9)).draw(0).slo_class
    share = np.bincount(classes, minlength=3) / 50_000
    assert share == pytest.approx([0.1, 0, 0.9], abs=0.007)
    assert share[1] == 0


# --- replay -----------------------------------------------------------------------------------------------


def saw_tooth(n=200):
    """A trace whose rows can be told apart: prompt = row number + 1, gaps 1, 2, 3, 1, 2, 3, ..."""
    gaps = np.resize([1.0, 2.0, 3.0], n - 1)
    number = np.arange(1, n + 1, dtype=np.int32)
    return Trace(np.r_[0.0, np.cumsum(gaps)], number, number[::-1].copy())


def test_a_trace_is_replayed_once_with_its_first_tenth_in_front_and_the_rest_rotated():
    trace = saw_tooth()
    workload = Workload(trace)
    offsets = set()
    for seed in range(8):
        drawn = workload.draw(seed)
        assert workload.warmup == 20
        assert drawn.prompt_tokens[:20].tolist() == list(range(1, 21))
        rest = drawn.prompt_tokens[20:]
        offsets.add(int(rest[0]))
        assert np.array_equal(np.roll(np.arange(21, 201), 21 - int(rest[0])), rest)
        assert sorted(zip(rest, drawn.output_tokens[20:], strict=True)) == [(p, 201 - p) for p in range(21, 201)]
    assert len(offsets) > 5


def test_replay_keeps_every_gap_and_wraps_with_a_mean_gap():
    trace = saw_tooth()
    drawn = Workload(trace, requests=1000).draw(0)
    row = drawn.prompt_tokens - 1
    gaps, follows = np.diff(drawn.arrival_s), np.diff(row) == 1
    assert gaps[follows] == pytest.approx(np.diff(trace.arrival_s)[row[:-1][follows]])
    assert gaps[~follows] == pytest.approx(replayed_gap_s(trace))
    assert (row[20:].min(), row.max()) == (20, 199)
    assert len(drawn) == 1000 and (~follows).sum() >= 5


def test_the_clock_of_a_trace_is_rescaled():
    trace = saw_tooth()
    own = Workload(trace).mean_rate
    assert own == pytest.approx(0.5, rel=0.01)
    base, fast, scaled = (
        workload.draw(1)
        for workload in (Workload(trace), Workload(trace, rate=4 * own), Workload(trace, rate_scale=4.0))
    )
    assert fast.arrival_s * 4 == pytest.approx(base.arrival_s)
    assert scaled.arrival_s == pytest.approx(fast.arrival_s)


@pytest.mark.parametrize(("end", "warmup"), [({"requests": 50}, 5), ({"duration_s": 100.0}, 6), ({"requests": 9}, 0)])
def test_a_short_replay_has_a_short_warm_up(end, warmup):
    workload = Workload(saw_tooth(), **end)
    assert workload.warmup == warmup
    drawn = workload.draw(0)
    assert (drawn.prompt_tokens[:warmup] <= 20).all() and (drawn.prompt_tokens[warmup:] > 20).all()
    assert drawn.arrival_s.max() <= end.get("duration_s", math.inf)


def test_a_trace_file_is_a_source(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},{i + 1},5\n" for i in range(30)))
    assert same(Workload(str(path)).draw(0), Workload(read_trace(path)).draw(0))
    assert Workload(path).trace is not None and Workload(path).name == "mine.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n")
    with pytest.raises(ValueError, match=r"1 row is too short"):
        Workload(str(path))


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "azure-con", "requests": 1}, r"workload 'azure-con' is not known. Did you mean azure-conv\?"),
        ({"source": "nowhere/trace.csv", "requests": 1}, r"'nowhere/trace.csv': there is no such file"),
        ({}, r"has no end: give requests or duration_s"),
        ({"requests": 0}, r"requests=0 is not allowed"),
        ({"requests": 2.5}, r"requests=2.5 is not allowed"),
        ({"duration_s": 0.0}, r"duration_s=0.0 is not allowed"),
        ({"requests": 1, "rate": 0.0}, r"rate=0.0 is not allowed: give a number above 0"),
        ({"requests": 1, "rate": math.nan}, r"rate=nan is not allowed"),
        ({"requests": 1, "rate": math.inf}, r"rate=inf is not allowed"),
        ({"requests": 1, "rate_scale": -1.0}, r"rate_scale=-1.0 is not allowed"),
        ({"requests": 1, "rate": 1.0, "rate_scale": 2.0}, r"contradict: give one of them"),
        ({"requests": 1, "burstiness": 0.0}, r"burstiness=0.0 is not allowed"),
        ({"requests": 1, "slo_shares": (0.5, 0.4)}, r"slo_shares=.* is not allowed"),
        ({"requests": 1, "slo_shares": ()}, r"slo_shares=.* is not allowed"),
        ({"source": saw_tooth(), "burstiness": 0.5}, r"a trace keeps its own arrivals"),
    ],
)
def test_bad_workloads_are_refused_when_made(options, message):
    with pytest.raises(ValueError, match=message):
        Workload(**options)


def test_bad_draws_are_refused():
    with pytest.raises(ValueError, match=r"no request comes so soon"):
        Workload(duration_s=1e-6).draw(0)
    with pytest.raises(ValueError, match=r"split='exam' is not known: choose one of test, validation, calibration"):
        Workload(requests=1).draw(0, "exam")
    with pytest.raises(ValueError, match=r"chunk=0 is not allowed"):
        next(Workload(requests=1).chunks(0, 0))


def test_shared_prefixes_are_put_before_the_prompts():
    """All else stays as it is; the k-th text has a frequency of k^-S."""
    plain = Workload("azure-conv", requests=20_000).draw(1)
    shared = Workload("azure-conv", requests=20_000, shared_prefix="3:1000:2").draw(1)
    np.testing.assert_array_equal(shared.prompt_tokens, plain.prompt_tokens + 1000)
    for name in ("arrival_s", "output_tokens", "predicted_tokens"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(plain, name))
    assert shared.hashes is not None and shared.hashed_tokens is not None
    assert shared.hash_tokens == 1008 and set(shared.hashed_tokens.tolist()) == {1000}
    counts = np.sort(np.unique(shared.hashes, return_counts=True)[1])[::-1] / 20_000
    np.testing.assert_allclose(counts, np.array([1, 1 / 4, 1 / 9]) / (1 + 1 / 4 + 1 / 9), atol=0.02)
    parts = list(Workload("azure-conv", requests=100, shared_prefix="3:1000:2").chunks(1, 30))
    np.testing.assert_array_equal(Requests.joined(parts).arrival_s, plain.arrival_s[:100])


@pytest.mark.parametrize("text", ["", "3", "0:16", "3:0", "3:16:-1", "3:16:1:1", "a:b", "1e3:5", "9999999:5"])
def test_shared_prefixes_are_checked(text):
    with pytest.raises(ValueError, match="shared_prefix=.* is not allowed: give none, or COUNT:TOKENS"):
        Workload("azure-conv", requests=10, shared_prefix=text)


def test_a_trace_brings_its_own_hashes(tmp_path):
    """Every row has them in the first turn of a replay; in the next the texts are others, shared as before."""
    ids = "[1, 2]", "[1, 3]", "[1, 2]", "[4, 5]"
    lines = (
        f'{{"timestamp": {1000 * i}, "input_length": 1000, "output_length": 5, "hash_ids": {ids[i % 4]}}}\n'
        for i in range(40)
    )
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(lines))
    requests = Workload(str(path), requests=80).draw(0)
    assert requests.hashes is not None and requests.hash_tokens == 512
    assert requests.hashed_tokens is not None and set(requests.hashed_tokens.tolist()) == {1000}
    assert 5 < len(np.unique(requests.hashes)) <= 4 * 5
    with pytest.raises(ValueError, match="a trace keeps its own prompts"):
        Workload(str(path), shared_prefix="3:64")
