"""compare --against and --write-workload: a log beside its simulation, and requests that go back to a server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval import compare
from llmsched.eval.report.timed_trace import chunk_of, prompt_ids, timed_trace
from llmsched_env.requests import Requests
from llmsched_env.workload.traces import read_trace
from tests.eval.analysis.test_analyze import log  # noqa: F401  a fixture

RUN = ["--engine", "continuous", "--policies", "vllm,sjf", "--seeds", "1", "--requests", "200"]


def test_a_log_is_its_own_workload(
    log: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Measured values are those of the file; a policy has a value for each of them."""
    assert compare.main([*RUN[:-2], "--against", str(log), "--out", str(tmp_path / "out")]) == 0
    assert "Measured (server.csv) beside simulated" in capsys.readouterr().out
    rows = np.genfromtxt(log, delimiter=",", names=True)
    table = (tmp_path / "out" / "summary.json").read_text()
    assert json.loads(table)["scenario"]["workload"].endswith("server.csv")
    assert compare.main([*RUN[:-2], "--against", str(log), "--format", "markdown"]) == 0
    shown = capsys.readouterr().out
    assert f"| E2E p95, ms | {1e3 * np.percentile(rows['e2e_s'], 95):,.1f} |" in shown
    assert f"| TTFT median, ms | {1e3 * np.median(rows['ttft_s']):,.1f} |" in shown


def test_a_log_without_times_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line; so are classes, which a log does not know."""
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,1,1\n")
    with pytest.raises(SystemExit):
        compare.main([*RUN, "--against", str(trace)])
    assert "has no times to the first token" in capsys.readouterr().err


def test_a_workload_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file has the lengths of the run and its arrivals in whole milliseconds; our own reader takes it."""
    path = tmp_path / "sent.jsonl"
    assert compare.main([*RUN, "--write-workload", str(path)]) == 0
    assert "--dataset-name timed_trace" in capsys.readouterr().out
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    back = read_trace(path)
    assert len(lines) == 200 and set(lines[0]) == {"timestamp", "input_length", "output_length", "hash_ids"}
    np.testing.assert_array_equal(back.prompt_tokens, [line["input_length"] for line in lines])
    assert (np.diff(back.arrival_s) >= 0).all()


def test_ids_cover_every_prompt_and_are_shared_where_tokens_are() -> None:
    """vLLM makes no token behind the last id; equal beginnings have equal ids, everything else has ids of its own."""
    alone = Requests.checked(np.arange(3.0), np.array([1, 512, 513]), np.ones(3))
    assert [len(ids) for ids in prompt_ids(alone)] == [1, 1, 2]
    assert len(np.unique(np.concatenate(prompt_ids(alone)))) == 4
    hashes = np.array([11, 12, 11, 13, 14])
    plain = Requests.checked(np.arange(2.0), np.array([40, 70]), np.ones(2))
    shared = replace(plain, hashes=hashes, hashed_tokens=np.array([32, 48]), hash_tokens=16)
    first, second = prompt_ids(shared)
    assert chunk_of(shared) == 16 and (len(first), len(second)) == (3, 5)
    assert first[0] == second[0] and len(np.unique(np.concatenate([first, second]))) == 7
    assert len(timed_trace(shared).splitlines()) == 2
