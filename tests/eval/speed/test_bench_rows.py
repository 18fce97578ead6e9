"""Rows of the benchmark that cannot be measured here: they stay, without a figure and with the reason."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from llmsched.eval.speed import env, train
from llmsched.eval.speed.table import SpeedRow, table_text


def test_learners_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without torch the rows say what to install; nothing else of the benchmark is lost."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rows = train.measure(0.1)
    assert [row.name for row in rows] == list(train.NAMES)
    for row in rows:
        assert math.isnan(row.value) and row.note.startswith("torch is not installed: pip install")


def test_rows_of_learners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios are to CartPole of the same run."""
    found = [{"name": name, "steps_per_s": 10.0 * (i + 1), "note": "n"} for i, name in enumerate(train.NAMES)]
    done = subprocess.CompletedProcess([], 0, stdout=json.dumps(found), stderr="")
    monkeypatch.setattr(train.subprocess, "run", lambda *_, **__: done)
    first, *others = train.measure(0.1)
    assert math.isnan(first.ratio) and [row.ratio for row in others] == [2.0, 3.0]


def test_envpool_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises is in the note."""
    monkeypatch.setitem(sys.modules, "envpool", None)
    row = env.envpool_row(0.1, 1, 4)
    assert math.isnan(row.value) and "envpool does not load here (ModuleNotFoundError" in row.note


def test_an_absent_row_in_the_table_and_as_json() -> None:
    """No NaN in either."""
    row = SpeedRow("g", "name", math.nan, "steps/s", note="why")
    line = table_text([row]).splitlines()[-1]
    assert line.split("|")[2].strip() == "absent" and "why" in line
    assert json.loads(json.dumps(row.as_dict(), allow_nan=False))["value"] is None
