"""Every write of a comparison fails once, and there is a kill at each: nothing is lost, a restart ends the same."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.tools import run
from tests.injection.tools import TRIED, KilledError, disk_full, failing, killed, read_only

WORDS = ["--policies", "static,multibin", "--seeds", "2"]


def command(folder: Path) -> list[str | Path]:
    """A comparison that writes everything but figures."""
    return [*WORDS, "--out", folder / "out", "--report", folder / "page.html", "--timeline", folder / "trace.json"]


def results(folder: Path) -> list[dict[str, str]]:
    """The rows of results.csv, but how long the runs took."""
    with (folder / "out" / "results.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "wall_s"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("fail", [disk_full, read_only, killed], ids=lambda fail: fail.__name__)
def test_every_write_fails_once(tmp_path: Path, fail: Callable[[str], BaseException]) -> None:
    """One line and exit code 2, or a kill; then the same command on a good disk gives what it would have given."""
    whole = tmp_path / "whole"
    whole.mkdir()
    with failing(0, fail) as system:
        assert run(*command(whole)).code == 0
    expected, writes = results(whole), system.calls
    assert writes > 20
    for number in range(1, writes + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        with failing(number, fail):
            try:
                ended = run(*command(folder))
                assert ended.code == 2 and ended.err.count("error: ") == 1 and "Traceback" not in ended.err, ended
                assert "cannot be written" in ended.err and ended.err.count("\n") == 1, ended
            except KilledError:
                assert fail is killed
        if fail is not killed:
            assert not list(folder.rglob(".llmsched-*")), number
        again = run(*command(folder))
        assert again.code == 0 and results(folder) == expected, (number, again)
        TRIED[f"writes that failed ({fail.__name__})"] += 1
