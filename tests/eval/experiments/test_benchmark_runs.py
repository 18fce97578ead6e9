"""eval/benchmark.py: what is run and scored, and the command on cases of seconds."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval import benchmark
from llmsched.eval.cli.frame import Session, run_options_parser
from llmsched.eval.experiments.benchmark import statistics
from llmsched.eval.experiments.benchmark.capacity import case_capacity
from llmsched.eval.experiments.benchmark.checkpoints import challenger_title, networks
from llmsched.eval.experiments.benchmark.experiment import EXPERIMENT, row_of
from llmsched.eval.experiments.capacity.study import STEP
from llmsched.eval.runs.cells import Crew
from llmsched.eval.runs.outcome import outcome_of, summary_until
from llmsched.eval.runs.runner import Cell, run_cell, run_stream
from llmsched.eval.runs.tune import scores
from llmsched.eval.scenarios.variants import OF_2023, scenario_of
from llmsched.policies import parse
from llmsched.policies.network import checkpoint
from llmsched_env.simulation.metrics import meets_slo

ROOT = Path(__file__).resolve().parents[3]
SMALL = scenario_of(*OF_2023, "--requests", "400", "--rate", "4")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals need not be good here."""
    monkeypatch.setattr(statistics, "RESAMPLES", 50)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder of the folders that three trainings would leave, seed1, seed2 and seed10, and one without weights."""
    arrays, rng = checkpoint.load_shipped("batch").arrays, np.random.default_rng(0)
    for seed in (1, 2, 10):
        changed = {name: array * rng.normal(1.0, 0.2, array.shape) for name, array in arrays.items()}
        checkpoint.save(tmp_path / "runs" / f"seed{seed}" / "best", changed, {"command": "none"})
    (tmp_path / "runs" / "seed3").mkdir()
    return tmp_path / "runs"


def test_networks_are_found_by_pattern_by_folder_and_by_name(trained: Path) -> None:
    wanted = [f"network:path={trained}/seed{seed}/best" for seed in (1, 2, 10)]
    for text in (
        f"network:path={trained}/seed*",
        f"network:path={trained}/seed*/best",
        f"network:path={trained}/*/*.npz",
        ",".join(f"network:path={trained}/seed{seed}" for seed in (1, 2, 10)),
        ", ".join(wanted),
    ):
        found = networks(text, SMALL.config)
        assert [bound.label for bound in found] == wanted and challenger_title(found) == "network (3 trained networks)"
    assert (
        challenger_title(networks("network", SMALL.config)) == "network"
        and challenger_title(networks("static:batch=4", SMALL.config)) == "static:batch=4"
    )


def test_what_is_no_challenger_is_refused(trained: Path) -> None:
    copy = checkpoint.load(trained / "seed1" / "best")
    checkpoint.save(trained / "copy", copy.arrays, {"command": "none"})
    for text, said in {
        f"network:path={trained}/other*": "no checkpoint fits",
        f"network:path={trained}/seed1,network:path={trained}/copy": "hold the same numbers",
        f"network:path={trained}/seed1,network:path={trained}/seed?": "is given 2 times",
        f"network:path={trained}/seed1,static": "different policies",
        "static:batch=auto,static:batch=4": "nothing to auto",
        "network,,network": "empty entry",
        f"network:path={trained}/seed3": "there is no such checkpoint",
    }.items():
        with pytest.raises(ValueError, match=said):
            networks(text, SMALL.config)


def test_what_is_cut_is_simulated_and_not_scored() -> None:
    """The run is that of an uncut one; every figure is of its requests in the middle."""
    cut = dataclasses.replace(SMALL, cut=(0.1, 0.25))
    assert cut.scored(400) == slice(40, 300) and SMALL.scored(400) == slice(0, 400)
    cells = [Cell("longest-queue", parse("longest-queue"), scenario, 5) for scenario in (SMALL, cut)]
    whole = run_cell(cells[0], SMALL.draw(5))
    (done,) = Crew().run_cells(cells[1:])
    summary, middle, met = done.outcome.summary, whole.requests[40:300], meets_slo(whole)[40:300]
    e2e = middle["completion"] - middle["arrival"]
    window = whole.requests["arrival"][300] - whole.requests["arrival"][40]
    assert summary["submitted"] == 260 and summary["slo_attainment"] == pytest.approx(met.mean()) and 0 < met.mean() < 1
    assert summary["p99_e2el_ms"] == pytest.approx(1000 * np.percentile(e2e, 99))
    assert summary["longest_wait_ms"] == pytest.approx(1000 * np.max(middle["dispatch"] - middle["arrival"]))
    assert summary["request_goodput"] == pytest.approx(met.sum() / window)
    by_bin = np.array([met[middle["bin"] == k].mean() for k in range(4)])
    assert summary["worst_bin_miss_rate"] == pytest.approx(1 - by_bin.min())
    assert summary["jain_index"] == pytest.approx(by_bin.sum() ** 2 / (4 * np.sum(by_bin**2)))
    assert np.isnan(summary["p99_itl_ms"]) and done.outcome.latency_counts[2].sum() == 260
    assert cut.describe()["cut_shares"] == [0.1, 0.25]


def test_nothing_cut_is_the_run_as_it_was() -> None:
    result = run_cell(Cell("static", parse("static"), SMALL, 1), SMALL.draw(1))
    one, other = outcome_of("static", 1, result), outcome_of("static", 1, result, end=400)
    assert repr(one.summary) == repr(other.summary) and "cut_shares" not in SMALL.describe()
    assert summary_until(result, 399)["submitted"] == 399


def test_a_streamed_run_is_not_cut() -> None:
    cell = Cell("static", parse("static"), dataclasses.replace(SMALL, cut=(0.0, 0.1)), 0, streamed=True)
    with pytest.raises(ValueError, match="do not cut"):
        next(run_stream(cell))


def test_tuning_scores_the_same_requests() -> None:
    cut = dataclasses.replace(SMALL, cut=(0.3, 0.3))
    (score,) = scores([(parse("longest-queue"), cut)], 1, "")
    runs = [
        run_cell(Cell("x", parse("longest-queue"), SMALL, s, "validation"), SMALL.draw(s, "validation"))
        for s in range(3)
    ]
    assert score.attainment == pytest.approx(np.mean([meets_slo(run)[120:280].mean() for run in runs]))


def session_of(*words: str) -> Session:
    """A session of the benchmark."""
    parser = run_options_parser("benchmark.py", "")
    EXPERIMENT.add_options(parser)
    return Session(parser.read([*words]), Crew())


def test_capacities_hold_and_one_percent_more_does_not(trained: Path) -> None:
    scenario = dataclasses.replace(SMALL, cut=(0.1, 0.1))
    session = session_of("--seeds", "2")
    bounds = networks(f"network:path={trained}/seed[12]", SMALL.config)
    found = case_capacity("mine", scenario, bounds, session)
    assert found.own.shape == (2, 2) and session.notes == [] and {row["case"] for row in session.rows} == {"mine"}

    def attained(policy, rate: float, seed: int) -> float:
        (done,) = Crew().run_cells([Cell("x", policy, scenario.at_rate(rate), seed)])
        return done.outcome.summary["slo_attainment"]

    tried = [(bound, found.own[row]) for row, bound in enumerate(bounds)]
    tried += [(parse(found.parameters[name]), rates) for name, rates in found.papers.items()]
    for policy, rates in tried:
        for seed in (0, 1):
            assert attained(policy, rates[seed], seed) >= 0.95 > attained(policy, rates[seed] * STEP, seed)


def test_a_row_of_networks_is_their_mean_by_seed() -> None:
    keys = ("request_goodput", "p99_e2el_ms", "longest_wait_ms", "refused_share", "jain_index", "worst_bin_miss_rate")
    misses = [[0.1, 0.3], [0.3, 0.3]]  # networks, seeds
    runs = [[{**dict.fromkeys(keys, 1000 * miss), "slo_attainment": 1 - miss} for miss in own] for own in misses]
    row = row_of({"case": "a"}, "network (2 trained networks)", "", runs)
    assert row["misses"] == pytest.approx([0.2, 0.3]) and row["networks"] == pytest.approx(np.array(misses))
    assert (row["p99"].mean, row["jain"].mean) == pytest.approx((0.25, 250.0)) and row["p99"].half > 0
    assert "networks" not in row_of({}, "network", "", runs[:1])


WORDS = ["--cases", "1 server", "--loads", "1.2", "--requests", "120", "--seeds", "2", "--rivals", "longest-queue"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert benchmark.main([*WORDS, "--out", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert "The bars" in first and "1 server" in first and "The networks" not in first and "Capacity" not in first
    assert "(the first 10 % and the last 10 % are not scored)" in " ".join(first.split())
    rows = list(csv.DictReader((tmp_path / "policies.csv").open()))
    assert [row["parameters"].split(":")[0] for row in rows] == [
        "network",
        "static",
        "dynamic",
        "multibin",
        "longest-queue",
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["tables"]["by_load"][0]["load"] == 1.2 and summary["cases"][0]["unit_rate"] > 0
    assert summary["cases"][0]["cut_shares"] == [0.1, 0.1]
    assert {row["submitted"] for row in csv.DictReader((tmp_path / "results.csv").open())} == {"96"}
    kept = (tmp_path / "cells.jsonl").read_bytes()
    assert benchmark.main([*WORDS, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "cells.jsonl").read_bytes() == kept and capsys.readouterr().out == first


def test_the_command_with_networks(tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--challenger", f"network:path={trained}/seed*", "--also", "edf", "--capacity"]
    assert benchmark.main([*WORDS, *words, "--out", str(tmp_path / "out")]) == 0
    assert "network (3 trained networks) against 5 heuristics" in capsys.readouterr().out
    tables = json.loads((tmp_path / "out" / "summary.json").read_text())["tables"]
    assert [row["network"] for row in tables["networks"]] == [
        f"network:path={trained}/seed{s}/best" for s in (1, 2, 10)
    ]
    assert [row["rival"] for row in tables["bars"]][2:] == ["edf (reported only)"]
    assert tables["capacity"][0]["ratio"] > 0
    rows = [row for row in csv.DictReader((tmp_path / "out" / "results.csv").open()) if not row["part"]]
    own = [1 - float(row["slo_attainment"]) for row in rows if row["policy"].startswith("network")]
    assert len(own) == 6 and len(set(own)) > 2 and tables["policies"][0]["missed"] == pytest.approx(np.mean(own))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cases", "5 servers"], "is not known. Choose from 4 servers; 1 server"),
        (["--warmup", "0.5", "--cooldown", "0.5"], "give shares whose sum is at most 0.9"),
        (["--also", "longest-queue"], "longest-queue is there 2 times"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        benchmark.main(words)
    assert caught.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_benchmark_is_taken_up_where_it_was(tmp_path: Path, trained: Path) -> None:
    """SIGKILL in the middle; the second start keeps every finished run of every network, and says the same."""
    words = [*WORDS, "--challenger", f"network:path={trained}/seed*", "--capacity", "--jobs", "1"]
    command = [sys.executable, str(ROOT / "eval" / "benchmark.py"), *words, "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "a")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store, deadline = tmp_path / "a" / "cells.jsonl", time.monotonic() + 600
    while (
        process.poll() is None
        and time.monotonic() < deadline
        and (not store.exists() or store.read_bytes().count(b"\n") < 200)
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = store.read_bytes()
    whole = before[: before.rindex(b"\n") + 1]
    for folder in ("a", "b"):
        assert benchmark.main([*words, "--out", str(tmp_path / folder)]) == 0
    after = [json.loads(line)["key"] for line in store.read_bytes().splitlines() if line.endswith(b"}")]
    assert store.read_bytes().startswith(whole) and len(after) == len(set(after))
    for name in ("bars", "networks", "capacity", "policies"):
        assert (tmp_path / "a" / f"{name}.csv").read_text() == (tmp_path / "b" / f"{name}.csv").read_text()
