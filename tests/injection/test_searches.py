"""Damaged folders of a training run: its settings, its losses, its curve; nothing of them is lost by a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cma", reason="what the command needs is not installed")

from llmsched.train import curves, evolution, search
from tests.faults.tools import Ended, run, snapshot
from tests.injection.test_readers import LONGEST_S, assert_well, at_most
from tests.injection.tools import TRIED, damaged, replaced

SEARCH = ["--generations", "3", "--population", "4", "--systems", "1", "--requests", "40"]
SEARCH += ["--pool", "1", "--runs", "2", "--hidden", "2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that has ended."""
    folder = tmp_path_factory.mktemp("search") / "run"
    assert run("--out", folder, *SEARCH, main=search.main).code == 0
    return snapshot(folder)


@pytest.fixture
def folder(tmp_path: Path, whole: dict[str, bytes]) -> Path:
    """A copy of the run."""
    (tmp_path / "run").mkdir()
    for name, content in whole.items():
        (tmp_path / "run" / name).write_bytes(content)
    return tmp_path / "run"


def resumed(folder: Path) -> Ended:
    """What --resume says, all but the compiled runs."""
    with at_most(LONGEST_S):
        return run("--out", folder, "--resume", main=search.main)


class ReachedError(BaseException):
    """The settings were accepted and the losses read: here the search would go on."""


@pytest.fixture
def without_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search ends where its runs would begin."""

    def reached(*_: Any) -> None:
        raise ReachedError

    monkeypatch.setattr(evolution.SearchProblem, "runs", reached)


def assert_kept(folder: Path, name: str, content: bytes) -> None:
    """A refusal leaves the damaged file as it is, and all others."""
    assert (folder / name).read_bytes() == content


@pytest.mark.parametrize("name", ["config.json", "losses.npz"])
@pytest.mark.usefixtures("without_runs")
def test_damaged_settings_and_losses(folder: Path, whole: dict[str, bytes], name: str) -> None:
    """By bytes, and by fields: refused in one line, or the search goes on with settings that are allowed."""
    copies: list[tuple[object, bytes]] = [pair for seed in range(3) for pair in damaged(whole[name], seed)]
    if name == "config.json":
        copies += [(about, json.dumps(changed).encode()) for about, changed in replaced(json.loads(whole[name]))]
    for about, content in copies:
        for other, kept in whole.items():
            (folder / other).write_bytes(kept)
        (folder / name).write_bytes(content)
        try:
            ended = resumed(folder)
        except ReachedError:
            TRIED[f"damages of a search that it can do without ({name})"] += 1
            continue
        assert ended.code == 2, (about, ended)
        assert_well(ended, about)
        assert snapshot(folder) == {**whole, name: content}, about
        TRIED[f"damaged searches ({name})"] += 1


@pytest.mark.parametrize("name", ["curve.csv", "start.npz", "start.json", "best.npz", "best.json"])
def test_what_follows_from_the_losses_is_made_again(folder: Path, whole: dict[str, bytes], name: str) -> None:
    """Whatever is in its place, --resume ends with the bytes of a run that was never damaged."""
    for about, content in [*damaged(whole[name], 0)][::6]:
        (folder / name).write_bytes(content)
        ended = resumed(folder)
        assert ended.code == 0, (about, ended)
        assert snapshot(folder) == whole, about
        TRIED[f"damaged searches ({name})"] += 1


def test_damaged_curves(folder: Path, whole: dict[str, bytes]) -> None:
    """train/curves.py draws a curve, or refuses it in one line and makes no picture."""
    pytest.importorskip("matplotlib")
    picture = folder.parent / "curve.png"
    for seed in range(3):
        for about, content in damaged(whole["curve.csv"], seed):
            (folder / "curve.csv").write_bytes(content)
            with at_most(LONGEST_S):
                ended = run(folder, "--out", picture, main=curves.main)
            assert_well(ended, about)
            assert picture.exists() == (ended.code == 0), about
            picture.unlink(missing_ok=True)
            TRIED["damaged curves"] += 1
