"""Predictors and bin edges: the stated laws, and what edges may look at."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from llmsched_env.workload import Predictor, Trace, Workload, bin_edges, parse_edges, parse_predictor
from llmsched_env.workload.predictors import PROMPT_NOISE

N = 20_000


@pytest.fixture(scope="module")
def lengths():
    drawn = Workload(requests=N, predictor="oracle").draw(5)
    return drawn.prompt_tokens, drawn.output_tokens


def predicted(text, lengths, cap=1000):
    prompt, output = lengths
    return parse_predictor(text).predict(prompt, output, cap, np.random.default_rng(1))


def test_oracle_tells_the_truth_and_none_the_cap(lengths):
    assert (predicted("oracle", lengths) == lengths[1]).all()
    assert (predicted("none", lengths, 777) == 777).all()


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_noisy_is_lognormal_about_the_truth(lengths, sigma):
    guess = predicted(f"noisy:{sigma}", lengths)
    long = lengths[1] > 100  # where rounding does not matter
    error = np.log(guess[long] / lengths[1][long])
    assert stats.kstest(error / sigma, "norm").pvalue > 1e-3
    assert guess.min() >= 1 and guess.dtype == np.int32


def test_noisy_without_noise_is_the_oracle_and_the_default_is_three_tenths(lengths):
    assert (predicted("noisy:0", lengths) == lengths[1]).all()
    assert parse_predictor("noisy") == Predictor("noisy", 0.3)


def test_prompt_only_knows_nothing_of_the_output(lengths):
    guess = predicted("prompt-only", lengths)
    long = lengths[0] > 500
    ratio = np.log(guess[long] / (1.5 * lengths[0][long] ** 0.7)) / PROMPT_NOISE
    assert stats.kstest(ratio, "norm").pvalue > 1e-3
    assert guess.min() >= 1
    independent = Workload("poisson", requests=N, predictor="prompt-only").draw(0)
    rho = stats.spearmanr(independent.predicted_tokens, independent.output_tokens).statistic
    assert abs(rho) < 4 / np.sqrt(N)


@pytest.mark.parametrize("text", ["orakel", "noisy:x", "noisy:-1", "noisy:nan", "oracle:1", "", "noisy:"])
def test_bad_predictors_are_refused(text):
    with pytest.raises(ValueError, match=r"predictor .* is not (known|allowed).*noisy:S"):
        parse_predictor(text)


def test_the_nearest_predictor_is_named():
    with pytest.raises(ValueError, match=r"Did you mean oracle\?"):
        Workload(requests=1, predictor="oracel")


@pytest.mark.parametrize("bins", [2, 4, 8])
@pytest.mark.parametrize("source", ["azure-conv", "azure-code", "uniform"])
def test_quantile_edges_share_out_the_arrivals_evenly(source, bins):
    workload = Workload(source, requests=N)
    edges = bin_edges(workload, bins, 0)
    guess = workload.draw(0).predicted_tokens
    share = np.bincount(np.searchsorted(edges, guess, side="right"), minlength=bins) / N
    heaviest = np.bincount(guess).max() / N  # an edge cannot cut through one length
    assert len(edges) == bins - 1
    assert np.abs(share - 1 / bins).max() < heaviest + 0.015


def test_edges_of_a_generator_do_not_come_from_the_scored_arrivals():
    workload = Workload(requests=50)
    assert bin_edges(workload, 4, 0) == bin_edges(dataclasses.replace(workload, requests=5000, rate=9.0), 4, 0)
    assert bin_edges(workload, 4, 0) != bin_edges(workload, 4, 1)
    truth = dataclasses.replace(workload, predictor="oracle")
    for split, equal in (("test", False), ("validation", False), ("calibration", True)):
        drawn = truth.draw(0, split).predicted_tokens
        assert np.array_equal(drawn, truth.calibration_predictions(0)[:50]) == equal


def test_edges_of_a_trace_come_from_its_first_tenth_only():
    rng = np.random.default_rng(0)
    output = np.r_[rng.integers(1, 11, 100), rng.integers(1000, 2000, 900)].astype(np.int32)
    trace = Trace(np.arange(1000.0), np.ones(1000, np.int32), output)
    workload = Workload(trace, predictor="oracle")
    edges = bin_edges(workload, 3, 0)
    assert max(edges) <= 10
    drawn = workload.draw(0)
    assert workload.warmup == 100
    assert (drawn.output_tokens[:100] <= 10).all() and (drawn.output_tokens[100:] >= 1000).all()


def test_one_bin_has_no_edge_and_bounds_are_taken_as_given():
    workload = Workload(requests=5)
    assert bin_edges(workload, 1) == ()
    assert bin_edges(workload, "4") == bin_edges(workload, 4)
    assert bin_edges(workload, "(0,64,256,1024)") == (64, 256, 1024) == parse_edges([0, 64, 256, 1024])
    assert parse_edges("0") == ()


def test_coinciding_quantiles_leave_empty_bins_with_a_warning():
    with pytest.warns(UserWarning, match=r"bins=3: .* 2 of the bins stay empty"):
        edges = bin_edges(Workload(requests=5, predictor="none"), 3)
    assert edges == (1000, 1000)


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        (0, r"bins=0 is not allowed: give a number from 1 to 32"),
        (33, r"bins=33 is not allowed"),
        ("0,x", r"bins='0,x' is not allowed: give ascending whole numbers"),
        ("-1,5", r"is not allowed"),
        ("", r"is not allowed"),
        ("0,9,9", r"not strictly ascending"),
        ([0, 1.5], r"is not allowed"),
        ([0, True], r"is not allowed"),
        ([64, 256], r"is ambiguous: give .*, 0 first; in front of 64 that makes 3 bins, in place of it 2"),
        (list(range(40)), r"has 40 bins: at most 32"),
    ],
)
def test_bad_bins_are_refused(bins, message):
    with pytest.raises(ValueError, match=message):
        bin_edges(Workload(requests=5), bins)
