"""Fidelity: the replay of real batches follows the simulator's rules exactly; errors, bars, refusals.

Without torch but for the last test, which replays a few batches of the tiny model.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llmsched.eval.calibration import settings
from llmsched.eval.fidelity import main
from llmsched.eval.figures import style
from llmsched.eval.figures.fidelity import LatencyCurves, draw_latencies
from llmsched.eval.reality import fidelity
from llmsched.eval.reality.fidelity_replay import (
    METRICS,
    Lengths,
    capacity,
    draw_requests,
    metrics_of,
    record_batches,
    replay,
    service_errors,
    service_ms,
    simulate_replay,
)
from llmsched.eval.reality.fidelity_report import LoadResult, MetricLine, ServiceError, metric_lines, table_text
from llmsched_env.profiles import Profile, load_profile
from llmsched_env.requests import Requests

SPLIT = Profile(
    "s", "split", {"d0": 5.0, "d1": 0.2, "d2": 1e-3, "p0": 8.0, "p1": 0.05, "p2": 2e-5}, math.inf, meta={"model": "m"}
)
AFFINE = Profile("a", "affine", SPLIT.coefficients, math.inf)
TOKENS = Profile("t", "tokens", {"w0": 4.0, "e0": 3.0, "w1": 0.05, "a_p": 2e-5, "a_d": 1e-3}, math.inf)
LENGTHS = Lengths(prompt=48, output=32)


@pytest.mark.parametrize("profile", [SPLIT, AFFINE, TOKENS], ids=lambda p: p.form)
@pytest.mark.parametrize("load", [0.3, 0.9, 1.5])
@pytest.mark.parametrize("batch", [1, 8])
def test_a_replay_on_a_server_that_obeys_the_profile_is_the_simulation(profile, load, batch):
    """What differs between real and simulated is then the service time alone, not the queue or the batches."""
    rate = load * capacity(profile, LENGTHS, batch, np.random.default_rng(1))
    requests = draw_requests(LENGTHS, 200, rate, np.random.default_rng(2))
    real, sim = replay(requests, batch, service_ms(profile)), simulate_replay(requests, batch, profile)
    np.testing.assert_allclose(real[0], sim[0], rtol=1e-9)
    np.testing.assert_allclose(real[1], sim[1], rtol=1e-9)


def test_the_noise_of_the_profile_is_drawn_by_its_key():
    noisy = replace(SPLIT, noise_sigma=0.1)
    requests = draw_requests(LENGTHS, 100, 5.0, np.random.default_rng(2))
    first, again, other = (simulate_replay(requests, 8, noisy, key)[1] for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 0 < np.abs(other / first - 1).max() and not np.array_equal(first, simulate_replay(requests, 8, SPLIT)[1])


def test_a_replay_by_hand():
    """Two at once, the third while they are served, the fourth after a pause; 1 s to the first token, 2 s more."""
    requests = Requests.checked([0.0, 0.0, 1.0, 10.0], [5, 6, 7, 8], [2, 3, 4, 5])
    seen = []

    def serve(prompts, outputs):
        seen.append((prompts, outputs))
        return 1000.0, 2000.0

    first, done = replay(requests, 2, serve)
    assert seen == [([5, 6], [2, 3]), ([7], [4]), ([8], [5])]
    assert first.tolist() == [1, 1, 4, 11] and done.tolist() == [3, 3, 6, 13]
    found = metrics_of(requests, first, done)
    assert found["e2e_p50"] == 3.0 and found["makespan"] == 13.0 and found["throughput"] == pytest.approx(4 / 13)
    assert tuple(found) == METRICS


def test_batches_are_no_larger_than_asked():
    requests = Requests.checked([0.0] * 5, [5] * 5, [2] * 5)
    sizes: list[int] = []

    def served(prompts, _):
        sizes.append(len(prompts))
        return 1.0, 1.0

    replay(requests, 2, served)
    assert sizes == [2, 2, 1]


def test_service_errors_of_the_batches_by_hand():
    requests = Requests.checked([0.0, 0.0, 9.0], [50, 50, 20], [3, 2, 1])
    batches: list = []
    replay(requests, 2, record_batches(lambda prompts, outputs: (10.0, 30.0), batches))
    both = 8.0 + 2 * (5 + 0.4) + 1e-3 * (102 + 104)  # the floor of the prefill, then two steps
    assert service_errors(batches, SPLIT) == pytest.approx([both / 40 - 1, 8.0 / 40 - 1])
    found = ServiceError.of(np.array([-0.1, 0.02, 0.04]))
    assert (found.batches, found.bias, found.median) == (3, 0.02, 0.04)


def test_the_capacity_is_that_of_full_batches():
    constant = Lengths(prompt=50, output=20, sigma=0.0)
    prefill, rest = service_ms(SPLIT)([50] * 4, [20] * 4)
    assert capacity(SPLIT, constant, 4, np.random.default_rng(0)) == pytest.approx(4000 / (prefill + rest))


def test_error_spread_and_bar_by_hand():
    line = MetricLine("e2e_p50", 1.08, (1.0, 0.9, 1.1))
    assert line.measured == 1.0 and line.error == pytest.approx(0.08)
    assert line.spread == pytest.approx(0.1) and line.bar == pytest.approx(0.2)
    quiet = MetricLine("e2e_p50", 1.08, (1.0, 1.0, 1.0))
    assert quiet.bar == 0.05 and quiet.verdict == "OUTSIDE"
    assert MetricLine("e2e_p50", 1.04, (1.0, 1.0)).verdict == "within"
    assert MetricLine("e2e_p50", 1.08, (1.0, 0.95, 1.05)).verdict == "within"


def test_runs_that_differ_too_much_judge_nothing():
    """A bar of twice the spread would let everything pass."""
    assert MetricLine("e2e_p50", 1.0, (1.0, 0.5, 1.5)).verdict == "UNDECIDED"
    noisy = metric_lines(dict.fromkeys(METRICS, 1.0), [dict.fromkeys(METRICS, x) for x in (0.5, 1.0, 1.5)])
    result = LoadResult(0.8, 2.0, 100, 3.5, noisy, ServiceError.of(np.zeros(3)))
    assert not result.passed and "the machine is too noisy" in table_text([result])


def result_of(predicted: float) -> LoadResult:
    real = [dict.fromkeys(METRICS, 1.0)] * 3
    service = ServiceError.of(np.array([-0.1, 0.02, 0.04]))
    return LoadResult(0.8, 2.0, 100, 3.5, metric_lines(dict.fromkeys(METRICS, predicted), real), service)


def test_the_table_marks_what_is_outside():
    good, bad = result_of(1.01), result_of(1.2)
    assert good.passed and not bad.passed
    text = table_text([good, bad])
    assert text.count("  within") == 2 and text.count("OUTSIDE") == 2
    assert "load 0.8 = 2 requests/s, 100 requests, mean batch 3.5, 3 real runs" in text
    assert json.loads(json.dumps(bad.as_dict()))["lines"][0]["verdict"] == "OUTSIDE"


@pytest.mark.skipif(not style.available(), reason="matplotlib missing")
def test_the_picture(tmp_path):
    curves = LatencyCurves([np.arange(1.0, 50.0)] * 3, np.arange(1.1, 50.1))
    style.draw_to(tmp_path / "a" / "x.png", lambda: draw_latencies([result_of(1.0)] * 2, [curves] * 2, "a title"))
    assert (tmp_path / "a" / "x.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loads", "0.5,9"], "argument --loads: '9' is not allowed: give a number above 0 and at most 2"),
        (["--repeats", "1"], "argument --repeats: '1' is not allowed: give a whole number from 2"),
        (["--requests", "3"], "argument --requests: '3' is not allowed: give a whole number from 10"),
        (["--device", "tpu"], "argument --device: 'tpu' is not known"),
    ],
)
def test_a_bad_option_is_refused_in_one_line(capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        main(options)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--profile", "idael"], "profile 'idael' is not known. Did you mean ideal?"),
        (["--device", "cuda", "--engine", "cuda-graph"], "--engine cuda-graph is not allowed"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_loaded(capsys, monkeypatch, options, message):
    monkeypatch.setattr(settings, "NEEDED", ())
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_without_torch_the_command_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(settings, "NEEDED", ("no_such_module",))
    with pytest.raises(SystemExit):
        main([])
    assert "no_such_module not installed: pip install torch transformers" in capsys.readouterr().err


def test_a_profile_of_something_else_is_refused():
    bench: Any = SimpleNamespace()
    bench.setup = SimpleNamespace(model="tiny", device="a cpu", dtype="float32", clock="wall")

    with pytest.raises(ValueError, match="--profile x: model='m', but this run has 'tiny'"):
        fidelity.check_same_system("x", SPLIT, bench)
    half = replace(SPLIT, meta={"model": "tiny", "gpu": "a cpu", "dtype": "bfloat16", "clock": "wall"})
    with pytest.raises(ValueError, match="--profile z: dtype='bfloat16', but this run has 'float32'"):
        fidelity.check_same_system("z", half, bench)
    with pytest.raises(ValueError, match="--profile y: model='none'"):
        fidelity.check_same_system("y", load_profile("ideal"), bench)


def test_a_few_real_batches(capsys, tmp_path, monkeypatch):
    """Every number is there and positive; how near they are is not a test but docs/results/fidelity.md."""
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    small = {"batches": (1, 4), "prompts": (8, 16), "contexts": (8, 16)}
    monkeypatch.setitem(settings.GRIDS, "cpu", small)
    options = ["--requests", "10", "--repeats", "2", "--batch", "4", "--loads", "0.7", "--prompt", "8", "--output", "6"]
    options += ["--patience", "0"]
    assert main([*options, "--longest", "16", "--json", "--out", str(tmp_path)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["model"] == "tiny" and summary["profile"] == "measure"
    (load,) = summary["loads"]
    assert [line["metric"] for line in load["lines"]] == list(METRICS)
    assert all(line["predicted"] > 0 and len(line["real"]) == 2 and min(line["real"]) > 0 for line in load["lines"])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
