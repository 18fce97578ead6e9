"""A real engine's log: read, fitted, predicted.

Always on a small log that the simulator itself wrote; on the real one where it is at hand (it is not shipped).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmsched.eval.engine_log import main
from llmsched.eval.figures import style
from llmsched.eval.reality import engine_log
from llmsched.eval.reality.log_data import LoggedRun, read_runs
from llmsched.eval.reality.log_fit import METRICS, Coefficients, correct_start, fit, metrics, predict
from llmsched.eval.reality.log_replay import EngineSettings
from llmsched.eval.reality.log_report import BAR, ErrorSummary, Prediction, prediction_table
from llmsched.eval.reality.log_start import LogTimeline, start
from llmsched.eval.report.tables import text
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests

REAL = Path(__file__).resolve().parents[3] / "shared" / "validation"
TRUTH = Coefficients(d0=6.0, d1=0.5, d2=2e-4, p1=0.05, offset=12.0)
ENGINE = EngineSettings(max_seqs=24, token_budget=128)
LOADS = (1.0, 3.0, 8.0)
UNSEEN = 5.0
N = 500
FEW = 60
"""Requests of the runs that need no more than to be there."""


def made_run(load: float, n: int = N) -> LoggedRun:
    """A run of a server that obeys TRUTH to the letter, at ``load`` requests/s; the same requests at every load."""
    rng = np.random.default_rng(7)
    sent = np.cumsum(rng.exponential(1.0, n))
    prompt, output = rng.integers(4, 400, n), rng.integers(1, 300, n)
    requests = Requests.checked((sent - sent[0]) / load, prompt, output)
    seen = predict(requests, TRUTH, ENGINE)
    return LoggedRun(f"{load:g}", requests, seen.first_s - requests.arrival_s, seen.done_s - requests.arrival_s)


def frame_of(run: LoggedRun) -> pd.DataFrame:
    """The columns of a log."""
    return pd.DataFrame(
        {
            "scale": float(run.label),
            "req_id": range(len(run.requests)),
            "arrival_s": run.requests.arrival_s,
            "prompt_tokens_est": run.requests.prompt_tokens,
            "output_tokens_loso": run.requests.output_tokens,
            "ttft_s": run.ttft_s,
            "e2e_s": run.e2e_s,
        }
    )


@pytest.fixture(scope="module")
def runs() -> list[LoggedRun]:
    """Three loads of the synthetic server: light, about full, overloaded."""
    return [made_run(load) for load in LOADS]


@pytest.fixture(scope="module")
def fitted(runs) -> Coefficients:
    """What the fit finds on the synthetic log."""
    return fit(runs, ENGINE)


@pytest.fixture
def folder(tmp_path: Path, runs: list[LoggedRun]) -> Path:
    """The synthetic log as a folder, with other files beside it."""
    made = tmp_path / "log"
    made.mkdir()
    pd.concat([frame_of(run) for run in runs]).to_csv(made / "any_name.csv", index=False)
    (made / "counters.csv").write_text("scale,t_s,num_running\n1,0.0,0\n")
    (made / "README.md").write_text("not a log")
    return made


def test_known_coefficients_are_recovered(fitted):
    """On a log without noise, every one of them: a search that stops in the valley of d1 and d2 is not enough."""
    np.testing.assert_allclose(fitted.values, TRUTH.values, rtol=0.03)


def test_corrections_alone_recover_them(runs):
    """The start of Nelder-Mead is the truth already, which the regressions without corrections are not."""
    np.testing.assert_allclose(np.exp(correct_start(runs, ENGINE)), TRUTH.values, rtol=0.03)
    assert np.max(np.abs(start(runs) / TRUTH.values - 1.0)) > 0.1


def test_the_command_predicts_a_run_that_it_has_not_seen(folder, fitted, tmp_path, monkeypatch, capsys):
    """E2E and makespan within 1 %, TTFT within 3 %; the profile it writes is one that the simulator reads.

    TTFT hangs on where in an iteration a request arrives: coefficients moved by 0.1 % move its percentiles by 1 %.
    """
    monkeypatch.setattr(engine_log, "fit", lambda seen, engine: fitted)
    unseen, profile = tmp_path / "unseen", tmp_path / "p.json"
    unseen.mkdir()
    frame = frame_of(made_run(UNSEEN)).rename(columns={"output_tokens_loso": "output_tokens"})
    frame.sample(frac=1, random_state=1).to_csv(unseen / "other.csv", index=False)
    options = ["--folder", folder, "--test-folder", unseen, "--max-seqs", 24, "--token-budget", 128]
    assert main([*map(str, options), "--json", "--write-profile", str(profile)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in summary["runs"]] == ["5"]
    assert summary["fitted_on"] == summary["runs"][0]["fitted_on"] == ["1", "3", "8"]
    assert set(summary["worst_abs_error"]) == set(METRICS)
    for name, error in summary["worst_abs_error"].items():
        assert error < (0.03 if name.startswith("ttft") else 0.01), name
    assert summary["passed"]
    assert load_profile(profile).coefficients["d0"] == pytest.approx(TRUTH.d0, rel=0.03)


def test_one_run_is_left_out_at_a_time(runs, monkeypatch):
    """No run is predicted by a fit that has seen it."""
    monkeypatch.setattr(engine_log, "fit", lambda seen, engine: replace(TRUTH, offset=float(len(seen))))
    found, made = engine_log.predict_runs(runs, None, ENGINE)
    assert found.offset == 3.0
    assert [each.run.label for each in made] == ["1", "3", "8"]
    assert [each.fitted_on for each in made] == [("3", "8"), ("1", "8"), ("1", "3")]
    assert all(each.found.offset == 2.0 for each in made)


def test_the_offset_is_the_clients(runs):
    """It delays what the client sees and nothing in the engine."""
    early, late = (predict(runs[2].requests, replace(TRUTH, offset=ms), ENGINE) for ms in (0.0, 40.0))
    np.testing.assert_allclose(late.first_s - early.first_s, 0.04, atol=1e-12)
    np.testing.assert_allclose(late.done_s - early.done_s, 0.04, atol=1e-12)


def test_a_request_alone_by_hand():
    """Prompt 200 in chunks of 128 and 72, the second no shorter than d0; two more tokens at context 201 and 202."""
    seen = predict(Requests.checked([1.0], [200], [3]), TRUTH, ENGINE)
    first = 1.0 + (128 * 0.05 + 6.0 + 12.0) / 1e3
    assert seen.first_s[0] == pytest.approx(first, rel=1e-9)
    assert seen.done_s[0] == pytest.approx(first + (2 * 6.0 + 2e-4 * (201 + 202)) / 1e3, rel=1e-9)


def test_the_start_is_near(runs):
    """The regressions on the log alone, without a simulation: the coefficients well, the offset roughly."""
    np.testing.assert_allclose(start(runs)[:4], TRUTH.values[:4], rtol=0.1)
    assert start(runs)[4] == pytest.approx(TRUTH.offset, rel=0.5)


def test_a_log_that_tells_nothing_has_a_start():
    """One request of one token: no step was seen."""
    alone = LoggedRun("1", Requests.checked([0.0], [5], [1]), np.array([0.1]), np.array([0.1]))
    assert np.all(np.isfinite(start([alone])))


def test_the_timeline_by_hand():
    """Request 0 decodes from 1 to 5 s (4 more tokens), request 1 from 2 to 4 s (20 more)."""
    requests = Requests.checked([0.0, 0.5], [100, 10], [5, 21])
    line = LogTimeline.of(LoggedRun("1", requests, np.array([1.0, 1.5]), np.array([5.0, 3.5])))
    np.testing.assert_allclose(line.wide, [1000, 2000, 1000])
    np.testing.assert_array_equal(line.members, [1, 2, 1])
    np.testing.assert_allclose(line.context, [100.5, 102 + 20, 103.5])
    np.testing.assert_array_equal(line.prompts, [100, 10, 0, 0])
    # request 1 alone has tokens enough: 2 s of steps of max(10, 6 * 2) + 122 / 100 ms, no prompt after its own
    (miss,) = line.residuals(np.array([10.0, 6.0, 0.01, 0.5]))
    assert miss == pytest.approx(np.log(2000 / 13.22 / 20))


def test_metrics_by_hand():
    """Three requests at 0, 1 and 2 s."""
    requests = Requests.checked([0.0, 1.0, 2.0], [5, 5, 5], [2, 2, 2])
    found = metrics(requests, np.array([1.0, 3.0, 5.0]), np.array([2.0, 5.0, 12.0]))
    assert found["ttft_p50"] == 2.0
    assert found["e2e_p50"] == 4.0
    assert found["makespan"] == 12.0
    assert found["ttft_p99"] == pytest.approx(2.98)


def test_the_mean_is_judged_and_the_worst_beside_it(runs):
    """Errors of one run too many put the mean outside."""
    right = [Prediction.of(run, TRUTH, runs, ENGINE) for run in runs]
    summary = ErrorSummary.of(right)
    assert summary.passed
    assert max(summary.worst.values()) < 1e-12
    slow = replace(TRUTH, d0=2 * TRUTH.d0, d1=2 * TRUTH.d1)
    mixed = ErrorSummary.of([*right[:2], Prediction.of(runs[2], slow, runs, ENGINE)])
    assert not mixed.passed
    assert mixed.mean["e2e_p50"] == pytest.approx(mixed.worst["e2e_p50"] / 3)
    shown = text(prediction_table(right, mixed))
    assert "OUTSIDE" in shown
    assert f"{100 * BAR['ttft_p95']:.1f} %" in shown


def test_runs_are_read_in_order(folder, runs):
    """By label as a number, whatever else lies in the folder; rows in order of arrival."""
    found = read_runs("--folder", folder)
    assert [run.label for run in found] == ["1", "3", "8"]
    for read, run in zip(found, runs, strict=True):
        np.testing.assert_array_equal(read.requests.prompt_tokens, run.requests.prompt_tokens)
        np.testing.assert_allclose(read.e2e_s, run.e2e_s, rtol=1e-12)


def test_a_file_without_labels_is_one_run(tmp_path, runs):
    """Named after the file; arrivals count from the first."""
    frame = frame_of(runs[0]).drop(columns=["scale", "req_id"])
    frame["arrival_s"] += 5.0
    frame.iloc[::-1].to_csv(tmp_path / "monday.csv", index=False)
    (run,) = read_runs("--folder", tmp_path)
    assert run.label == "monday"
    np.testing.assert_allclose(run.requests.arrival_s, runs[0].requests.arrival_s, atol=1e-12)
    np.testing.assert_allclose(run.ttft_s, runs[0].ttft_s, rtol=1e-12)


def refused(argv, capsys) -> str:
    """The one line on standard error of a command that exits with 2."""
    with pytest.raises(SystemExit) as error:
        main([str(word) for word in argv])
    out, line = capsys.readouterr()
    assert error.value.code == 2
    assert out == ""
    assert line.count("\n") == 1
    return line


def changed(column: str, value: Any) -> pd.DataFrame:
    """A log whose fourth row has ``value`` in ``column``."""
    frame = frame_of(made_run(1.0, FEW)).astype({column: object})
    frame.loc[3, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "wanted"),
    [
        ("ttft_s", "soon", "a finite number"),
        ("ttft_s", 0.0, "above 0"),
        ("e2e_s", 1e-6, "at least the time to the first token"),
        ("e2e_s", None, "a finite number"),
        ("arrival_s", -1.0, "at least 0"),
        ("prompt_tokens_est", 0, "a whole number of tokens"),
        ("output_tokens_loso", 2.5, "a whole number of tokens"),
    ],
)
def test_bad_rows_are_refused(tmp_path, capsys, column, value, wanted):
    """With the file, the row, the column and what is allowed."""
    changed(column, value).to_csv(tmp_path / "log.csv", index=False)
    line = refused(["--folder", tmp_path], capsys)
    assert "log.csv, row 4: " + column in line
    assert wanted in line


def test_bad_folders_are_refused(tmp_path, capsys, folder):
    """None, empty, without requests, without a column, header only, one run, a run twice."""
    assert "no such folder" in refused(["--folder", tmp_path / "nowhere"], capsys)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no CSV file" in refused(["--folder", empty], capsys)
    assert "--test-folder" in refused(["--folder", folder, "--test-folder", empty], capsys)
    (empty / "summary.csv").write_text("scale,n\n1,2\n")
    assert "output_tokens_loso" in refused(["--folder", empty], capsys)
    (empty / "counters.csv").write_text("scale,t_s\n1,2\n")
    assert "no file of requests" in refused(["--folder", empty], capsys)
    frame = frame_of(made_run(1.0, FEW))
    frame.drop(columns="ttft_s").to_csv(empty / "log.csv", index=False)
    assert "no column ttft_s" in refused(["--folder", empty], capsys)
    frame.head(0).to_csv(empty / "log.csv", index=False)
    assert "no row" in refused(["--folder", empty], capsys)
    frame.to_csv(empty / "log.csv", index=False)
    assert "holds one run" in refused(["--folder", empty], capsys)
    frame.to_csv(empty / "twice.csv", index=False)
    assert "another file" in refused(["--folder", empty], capsys)
    (empty / "log.csv").write_bytes(b"\xff\xfe\x00ttft_s")
    assert "not readable as CSV" in refused(["--folder", empty], capsys)


def test_the_table_and_the_picture(folder, tmp_path, monkeypatch, capsys):
    """Per run and as the mean, worst beside it; a picture where matplotlib is there."""
    monkeypatch.setattr(engine_log, "fit", lambda seen, engine: TRUTH)
    options = ["--folder", folder, "--max-seqs", 24, "--token-budget", 128]
    if style.available():
        options += ["--plot", tmp_path / "cdf.png"]
    assert main([str(word) for word in options]) == 0
    shown = capsys.readouterr().out
    assert shown.count("logged, s") == len(LOADS)
    for words in ("mean |error|", "worst |error|", "bar of the mean", "Each run predicted from the others"):
        assert words in shown
    assert "OUTSIDE" not in shown
    if style.available():
        assert (tmp_path / "cdf.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the log of a real vLLM server (not shipped) is not at ../shared/validation"
)
def test_a_real_engine_is_predicted_within_the_bar():
    """A load of a vLLM server from a fit on two lighter and two heavier ones."""
    runs = {run.label: run for run in read_runs("--folder", REAL)}
    unseen = runs.pop("600")
    _, made = engine_log.predict_runs(list(runs.values()), [unseen], EngineSettings())
    assert ErrorSummary.of(made).passed
