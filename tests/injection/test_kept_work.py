"""Damaged work that was kept: plans, fits, runs of real servers, raw rows of a calibration, folders of --out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval import hindsight, profiles
from llmsched.eval.calibration import campaign, document
from llmsched.eval.calibration.campaign import MeasurementPlan
from llmsched.eval.calibration.rows import RowFile
from llmsched.eval.figures import style
from llmsched.eval.figures.style import draw_all, draw_to
from llmsched.eval.reality.serving.client import Served, as_row
from llmsched.eval.reality.serving.experiment import run_of
from llmsched.eval.runs.line_store import LineStore
from llmsched.eval.silicon.fitting import NAMES
from llmsched.eval.silicon.points import read_points
from llmsched.eval.silicon.results import FitResult, FitStore
from tests.faults.tools import Ended, run, snapshot
from tests.injection.test_readers import LONGEST_S, assert_well, at_most, shown
from tests.injection.tools import TRIED, damaged, replaced
from tests.reality.calibration.tools import CELLS, SETUP, Table, opened, profile_of
from tests.reality.silicon.test_atlas import frame, made_points

PLANS = ["--cases", "4 servers", "--loads", "1.2", "--requests", "20", "--trials", "20", "--seeds", "2", "--jobs", "1"]


def test_damaged_plans(tmp_path: Path) -> None:
    """The same findings, whatever is in plans.jsonl."""
    words: list[str | Path] = [*PLANS, "--heuristics", "static,multibin", "--challenger", "dynamic"]
    words += ["--out", tmp_path / "out", "--json"]
    first = run(*words, main=hindsight.main)
    assert first.code == 0, first
    file = tmp_path / "out" / "plans.jsonl"
    whole = file.read_bytes()
    for about, content in damaged(whole, 0):
        file.write_bytes(content)
        with at_most(LONGEST_S):
            ended = run(*words, main=hindsight.main)
        assert ended.code == 0 and shown(ended.out) == shown(first.out), (about, ended)
        assert all("plans.jsonl" in line for line in ended.err.splitlines()), (about, ended)
        TRIED["damaged results (plans.jsonl)"] += 1


def served(number: int) -> list[Served]:
    """Two requests of a real server."""
    return [Served(0.5 * k, 0.5 * k, 0.1 + k, 1.0 + number, 3, gaps=[0.25, 0.5], error="") for k in range(2)]


def test_damaged_fits_and_runs_of_servers(tmp_path: Path) -> None:
    """What is damaged is not there; what is there is what was kept."""
    frame(made_points(np.where(np.array(NAMES) == "e0", 0.0, 1.0), 0.0)).to_csv(tmp_path / "points.csv", index=False)
    (configuration,) = read_points(tmp_path / "points.csv")
    fit = FitResult(configuration, np.arange(9.0), np.ones((9, 2)), np.ones((9, 2)))
    FitStore(tmp_path).put(fit)
    runs = LineStore(tmp_path / "real.jsonl")
    for number in range(3):
        runs.put(str(number), {"rows": as_row(served(number)), "notes": ["a note"]})
    for name in ("fits.jsonl", "real.jsonl"):
        file = tmp_path / name
        whole = file.read_bytes()
        for seed in range(5):
            for about, content in damaged(whole, seed):
                file.write_bytes(content)
                if name == "fits.jsonl":
                    found = FitStore(tmp_path).get(configuration)
                    assert found is None or np.array_equal(found.values, fit.values), about
                else:
                    kept = LineStore(file)
                    again = [kept.get(str(number), run_of) for number in range(3)]
                    assert all(one in (None, (served(n), ["a note"])) for n, one in enumerate(again)), about
                TRIED[f"damaged results ({name})"] += 1


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    """A profile and its raw rows, of a fake device."""
    plan, file = MeasurementPlan(CELLS, repeats=2), opened(tmp_path)
    campaign.run(plan, file, Table(sigma=0.02))
    document.write(tmp_path / "mine.json", profile_of(plan, file.rows))
    return tmp_path


def test_damaged_raw_rows(calibrated: Path) -> None:
    """Continued, or refused in one line and left as they are: nobody loses a file that was named by mistake."""
    file = calibrated / "rows.csv"
    whole = file.read_bytes()
    first = RowFile(file, SETUP).rows
    for seed in range(3):
        for about, content in [*damaged(whole, seed), ("a file of others", whole.replace(b"fake", b"real") + b"1,2")]:
            file.write_bytes(content)
            try:
                with at_most(LONGEST_S):
                    rows = RowFile(file, SETUP).rows
            except ValueError as error:
                assert "\n" not in str(error) and "rows.csv" in str(error), about
                assert file.read_bytes() == content, about
            else:
                assert content.startswith(file.read_bytes()) and len(content) - file.stat().st_size < 200, about
                assert len(rows) <= 2 * len(first), about
            TRIED["damaged raw rows"] += 1


def drawn(folder: Path) -> Ended:
    """What eval/profiles.py says of the profile and its rows."""
    with at_most(LONGEST_S):
        return run(folder / "mine.json", "--plot", folder / "figures", main=profiles.main)


@pytest.mark.skipif(not style.available(), reason="matplotlib missing")
def test_pictures_of_damaged_raw_rows_and_profiles(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn or refused, by the bytes of the rows and by the fields of the profile."""
    monkeypatch.setattr(style, "draw_to", draw_to)
    monkeypatch.setattr(style, "draw_all", draw_all)
    assert drawn(calibrated).code == 0
    file, profile = calibrated / "rows.csv", calibrated / "mine.json"
    whole, about_it = file.read_bytes(), json.loads(profile.read_text())
    for damage, content in damaged(whole, 0):
        file.write_bytes(content)
        assert_drawn(drawn(calibrated), damage)
    file.write_bytes(whole)
    for about, changed in [*replaced(about_it)][::3]:
        profile.write_text(json.dumps(changed))
        assert_drawn(drawn(calibrated), about)


def assert_drawn(ended: Ended, about: object) -> None:
    """A picture, named on standard error, or a refusal."""
    TRIED["damaged pictures of profiles"] += 1
    if ended.code == 2:
        last = ended.err.splitlines()[-1]
        assert "error: " in last and "Traceback" not in ended.err, (about, ended)
    else:
        assert ended.code == 0 and "drawn" in ended.err, (about, ended)


IN_THE_WAY: dict[str, Callable[[Path], None]] = {
    "a folder": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to(path.parent.parent / "kept"),
    "a dangling link": lambda path: path.symlink_to(path.parent.parent / "gone"),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_odd_things_in_a_folder_of_results(tmp_path: Path, kind: str) -> None:
    """In the place of every file that was there: one line, nothing lost, nothing made elsewhere; then all is well."""
    out = tmp_path / "out"
    assert run("--out", out).code == 0
    (tmp_path / "kept").write_text("kept")
    before = snapshot(tmp_path)
    for name in sorted(path.name for path in out.iterdir() if path.is_file()):
        content = (out / name).read_bytes()
        (out / name).unlink()
        IN_THE_WAY[kind](out / name)
        with at_most(LONGEST_S):
            ended = run("--out", out)
        assert_well(ended, (kind, name))
        assert ended.code == 2 and name in ended.err, (kind, name, ended)
        assert {path: text for path, text in before.items() if path != f"out/{name}"} == snapshot(tmp_path), name
        (out / name).rmdir() if kind == "a folder" else (out / name).unlink()
        (out / name).write_bytes(content)
        TRIED["odd things in a folder of results"] += 1
    assert run("--out", out).code == 0


def test_a_figure_that_cannot_be_written_costs_no_results(tmp_path: Path) -> None:
    """Something else in the place of figures/."""
    (tmp_path / "figures").write_text("mine")
    ended: Any = run("--out", tmp_path)
    assert ended.code in (0, 2) and (tmp_path / "figures").read_text() == "mine"
    assert (tmp_path / "results.csv").exists() and (tmp_path / "cells.jsonl").exists()
