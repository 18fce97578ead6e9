"""Stores of finished work: a damaged line loses itself, is said, and is never taken for true."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval.best_possible.plan_store import search_plans
from llmsched.eval.best_possible.plans import Plan
from llmsched.eval.runs.line_store import LineStore, digest_of
from tests.faults.tools import run


def results_in(folder: Path) -> list[dict[str, str]]:
    """The rows of results.csv, but how long the runs took."""
    with (folder / "results.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "wall_s"} for row in csv.DictReader(file)]


def stored(folder: Path) -> tuple[Path, list[bytes], list[dict[str, str]]]:
    """A folder with three finished runs: the store, its lines, and the rows of results."""
    assert run("--seeds", "3", "--out", folder).code == 0
    file = folder / "cells.jsonl"
    return file, file.read_bytes().splitlines(keepends=True), results_in(folder)


DAMAGE = {
    "a digit changed": lambda lines: [lines[0].replace(b'"submitted":40', b'"submitted":41'), *lines[1:]],
    "a line cut off": lambda lines: [lines[0][:-30] + b"\n", *lines[1:]],
    "the last line torn": lambda lines: [*lines[1:], lines[0][:50]],
    "a line of nothing but numbers": lambda lines: [b"17\n", *lines[1:]],
    "deep JSON": lambda lines: [b'{"digest":' + b"[" * 100_000 + b"\n", *lines[1:]],
    "no text": lambda lines: [bytes(range(11, 256)) + b"\n", *lines[1:]],
    "two lines in one": lambda lines: [lines[0].rstrip() + lines[1][:20] + b"\n", *lines[1:]],
    "an older version, without digests": lambda lines: [b"{" + lines[0][46:], *lines[1:]],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_made_again(tmp_path: Path, kind: str) -> None:
    """The restart says so in one line, gives the same rows, and the store is whole again."""
    file, lines, results = stored(tmp_path)
    damaged = DAMAGE[kind](lines)
    assert damaged != lines
    file.write_bytes(b"".join(damaged))
    again = run("--seeds", "3", "--out", tmp_path)
    assert again.code == 0 and again.err.count("\n") == 1 and "1 of 3 lines" in again.err, again
    assert results_in(tmp_path) == results
    assert len(LineStore(file)) == 3
    assert len(LineStore(file)) + LineStore(file).damaged == 4


def test_a_row_that_changes_while_the_store_is_open_is_not_believed(tmp_path: Path) -> None:
    """It counts as missing."""
    store = LineStore(tmp_path / "lines")
    store.put("a", {"value": 1.5})
    store.put("b", {"value": 2.5})
    assert store.get("a", dict) == {"key": "a", "value": 1.5}
    store.path.write_bytes(store.path.read_bytes().replace(b"1.5", b"1.6"))
    assert store.get("a", dict) is None and store.get("b", dict) == {"key": "b", "value": 2.5}
    assert "a" not in store and "b" in store


OTHERS = {
    "no JSON": b'"key":"KEY" 5}',
    "no plan": b'"key":"KEY","order":"fifo"}',
    "another plan": b'"key":"KEY","order":"fifo","plan":[[1,2,3]]}',
    "a text": b'"key":"KEY","order":"fifo","plan":"x"}',
    "deep": b'"key":"KEY","plan":' + b"[" * 100_000 + b"}",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_line_of_another_program_is_not_believed(tmp_path: Path, kind: str) -> None:
    """Its digest is right, and what it holds is no plan: the plan is searched again."""
    rest = OTHERS[kind].replace(b"KEY", b"plan 0")
    (tmp_path / "plans.jsonl").write_bytes(b'{"digest":"' + digest_of(rest) + b'",' + rest + b"\n")
    search = Counted()
    assert len(LineStore(tmp_path / "plans.jsonl")) == 1
    search_plans(search, range(1), 1, tmp_path, "")  # type: ignore[arg-type]
    assert search.searched == 1
    search_plans(search, range(1), 1, tmp_path, "")  # type: ignore[arg-type]
    assert search.searched == 1


def test_two_writers_lose_nothing_after_a_torn_line(tmp_path: Path) -> None:
    """Both append to what a third left unfinished."""
    path = tmp_path / "lines"
    LineStore(path).put("first", {"value": 0})
    path.write_bytes(path.read_bytes() + b'{"digest":"')
    one, two = LineStore(path), LineStore(path)
    for number in range(20):
        (one, two)[number % 2].put(str(number), {"value": number})
    whole = LineStore(path)
    assert whole.damaged == 1 and len(whole) == 21
    assert all(whole.get(str(number), dict) == {"key": str(number), "value": number} for number in range(20))


class Counted:
    """A search whose plans are cheap; it counts how many were searched."""

    searched = 0

    def key(self, seed: int) -> str:
        """A key."""
        return f"plan {seed}"

    def best_plan(self, seed: int) -> tuple[str, Plan]:
        """A plan of two decisions."""
        self.searched += 1
        return "fifo", np.array([[seed, 1.0], [0.0, 2.0]])


def test_plans_lose_a_damaged_line_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no text, and a torn line: the two plans that they held are searched again."""
    search = Counted()
    found = search_plans(search, range(4), 1, tmp_path, "")  # type: ignore[arg-type]
    file = tmp_path / "plans.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    assert search.searched == len(lines) == 4
    file.write_bytes(b"\xff\xfe\n" + b"".join(lines[1:])[:-9])
    again = search_plans(search, range(4), 1, tmp_path, "")  # type: ignore[arg-type]
    assert search.searched == 6 and "plans.jsonl: 2 of 4 lines" in capsys.readouterr().err
    assert [plan.values for plan in found] == [plan.values for plan in again]
    assert len(LineStore(file)) == 4
