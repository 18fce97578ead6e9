"""The evolution strategy survives a kill at every write, continues bit for bit, and reads plain numbers only."""

from __future__ import annotations

import csv
import importlib
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmsched.policies.network import checkpoint

pytest.importorskip("cma")
from llmsched.train import evolution, search, small
from llmsched_env.files import writing

ROOT = Path(__file__).resolve().parents[2]
SEARCH = ["--generations", "3", "--population", "4", "--systems", "1", "--requests", "40"]
SEARCH += ["--pool", "1", "--runs", "2", "--hidden", "2"]
FILES = ("config.json", "losses.npz", "curve.csv", "start.npz", "start.json", "best.npz", "best.json")


class KilledError(Exception):
    """Somebody pulled the plug."""


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run; the folder that its settings name is left out."""
    return {name: (folder / name).read_bytes().replace(str(folder).encode(), b"OUT") for name in FILES}


@pytest.mark.parametrize("program", ["search", "search_continuous"])
def test_a_run_leaves_a_curve_and_weights(program: str, tmp_path: Path) -> None:
    """A row per generation."""
    train = importlib.import_module(f"llmsched.train.{program}")
    assert train.main(["--out", str(tmp_path / "run"), *SEARCH]) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "curve.csv").read_text().splitlines()))
    assert [row["generation"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["best"]) <= float(row["mean"]) and float(row["sigma"]) > 0 for row in rows)
    assert checkpoint.load(tmp_path / "run" / "best").about["generation"] == 3


def test_training_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both programs write lines with the time left; at the end nothing is."""
    assert search.main(["--out", str(tmp_path / "run"), *SEARCH]) == 0
    assert small.main(["--out", str(tmp_path / "small"), "--generations", "20", "--requests", "200"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("generation ")]
    assert [line.split(":")[0].split()[1] for line in lines] == ["1", "2", "3", "10", "20"]
    left = [float(line.rpartition(", ")[2].removesuffix(" s left")) for line in lines]
    assert left[2] == left[4] == 0 and min(left) >= 0


def test_a_kill_at_any_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a file takes its place, and right after: --resume ends with the bytes of a run that was never killed."""
    monkeypatch.setattr(evolution, "report_validation", lambda *_: None)
    assert search.main(["--out", str(tmp_path / "whole"), *SEARCH]) == 0
    whole, replace, count = contents(tmp_path / "whole"), writing.os.replace, 0
    for moment in range(100):
        folder, moves = tmp_path / str(moment), iter(range(100))

        def pulled(source: Path, target: Path, moves=moves, moment=moment) -> None:
            move = next(moves)
            if move == moment // 2 and moment % 2 == 0:
                raise KilledError
            replace(source, target)
            if move == moment // 2:
                raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(writing.os, "replace", pulled)
            try:
                search.main(["--out", str(folder), *SEARCH])
                break  # there were no more writes
            except KilledError:
                count += 1
        again = ["--resume"] if (folder / "config.json").exists() else SEARCH
        assert search.main(["--out", str(folder), *again]) == 0
        assert contents(folder) == whole, moment
        assert not list(folder.glob(".*"))
    assert count == 2 * (3 + 2 * 3 + 2)  # settings and start; state and curve of 3 generations; the best


def damaged(name: str) -> dict[str, bytes]:
    """Bytes that are no such file."""
    arrays = io.BytesIO()
    np.savez(arrays, losses=np.zeros((2, 9)))
    inf = io.BytesIO()
    np.savez(inf, losses=np.full((1, 4), np.inf))
    found = {"empty": b"", "garbage": bytes(range(256)), "pickle": pickle.dumps({"a": 1}), "JSON": b"[1, 2]"}
    return found | (
        {"shape": arrays.getvalue(), "inf": inf.getvalue()} if name == "losses.npz" else {"deep": b"[" * 10**5}
    )


@pytest.mark.parametrize("name", ["losses.npz", "config.json"])
def test_damaged_state_is_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is executed: a pickle is no state."""
    run = tmp_path / "run"
    run.mkdir()
    settings = {**vars(search.BatchSearchSettings()), "out": str(run), "generations": 2, "population": 4, "systems": 1}
    for kind, content in damaged(name).items():
        (run / "config.json").write_text(json.dumps(settings))
        (run / name).write_bytes(content)
        try:
            code = search.main(["--out", str(run), "--resume"])
        except SystemExit as stop:
            code = int(stop.code or 0)
        error = capsys.readouterr().err
        assert code == 2 and name in error and "Traceback" not in error, kind
        assert error.rstrip().count("\nsearch.py: error") <= 1


def test_the_state_of_an_earlier_version_is_not_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so."""
    (tmp_path / "config.json").write_text(json.dumps({**vars(search.BatchSearchSettings()), "systems": 1}))
    (tmp_path / "resume.pkl").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    with pytest.raises(SystemExit) as stop:
        search.main(["--out", str(tmp_path), "--resume"])
    assert stop.value.code == 2
    assert "resume.pkl is of an earlier version" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "words",
    [
        *(f"--{name} {value}" for name in ("generations", "population", "hidden") for value in (0, -1, 10**30, "x")),
        *(f"--sigma {value}" for value in ("nan", "inf", 0, -1)),
        "--out /dev/null/x",
        "--no-such 1",
    ],
)
def test_bad_values_are_refused_in_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is made."""
    with pytest.raises(SystemExit) as stop:
        search.main(words.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("search.py: error: ") and error.count("\n") == 1, error


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_an_output_that_cannot_be_written_costs_no_weights(redirection: str, tmp_path: Path) -> None:
    """One line, exit code 2, and the run is whole."""
    program = f"{sys.executable} {ROOT / 'train' / 'search.py'}"
    command = f"{program} {' '.join(SEARCH)} --out {tmp_path / 'run'} {redirection}"
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == 2 and b"standard output cannot be written" in ended.stderr, ended
    assert b"Traceback" not in ended.stderr and (tmp_path / "run" / "best.npz").exists()
