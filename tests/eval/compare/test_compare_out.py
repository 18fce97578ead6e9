"""`compare --out` with the learned policy, which has an overdue queue that the scenario has not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from llmsched.eval import compare


@pytest.mark.parametrize("engine", ["batch", "continuous"])
@pytest.mark.parametrize("policies", ["multibin,network", "network", "longest-queue:overdue=2"])
def test_rows_are_written_with_an_overdue_queue_and_a_restart_gives_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, engine: str, policies: str
) -> None:
    """Every request is counted in a column of its bin, and the second start changes no byte of the rows."""
    words = ["--engine", engine, "--policies", policies, "--requests", "200", "--seeds", "2", "--jobs", "1"]
    assert compare.main([*words, "--out", str(tmp_path)]) == 0
    text = (tmp_path / "results.csv").read_bytes()
    rows = list(csv.DictReader(text.decode().splitlines()))
    assert len(rows) == 2 * len(policies.split(","))
    for row in rows:
        bins = [name for name in row if name.startswith("bin") and name.endswith("_submitted")]
        assert bins == [f"bin{k}_submitted" for k in range(4)]
        assert sum(int(row[name]) for name in bins) == int(row["submitted"]) == 200
    assert compare.main([*words, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "results.csv").read_bytes() == text
    assert "error" not in capsys.readouterr().err
