"""The examples are programs of users too: what is wrong is one line, and what lies in the place of an output stays."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.faults.tools import ROOT, run

POLICIES = """def first(row, i):
    return row[i]

def outside(record, params, memory, rng):
    return first(record.queue_length, 1000), 1

def no_bin(record, params, memory, rng):
    return 77, 1
"""
REFUSED = {
    "a helper's index": (["my.py:outside"], "IndexError"),
    "a bin that is not there": (["my.py:no_bin"], "action (77, 1)"),
    "an unknown policy": (["statik"], "Did you mean static?"),
    "a policy of the other engine": (["fcfs"], "belongs to the engine"),
    "a device": (["static", "-o", "/dev/null"], "a device"),
    "no number": (["static", "--fps", "nan"], "--fps: 'nan'"),
    "a film that nothing writes": (["static", "-o", "x.nothing"], ""),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_film_refuses_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A policy is asked from Python there: its helpers' indices are checked all the same."""
    pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib, which the plots need")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(POLICIES)
    words, said = REFUSED[kind]
    main = runpy.run_path(str(ROOT / "examples" / "video.py"))["main"]
    ended = run(*words, *([] if "-o" in words else ["-o", "x.png"]), "--start", "5", "--seconds", "2", main=main)
    ended.refused(said)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("x.")]


def test_the_log_of_a_server_replaces_no_link(tmp_path: Path) -> None:
    """As every output."""
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "log.csv").symlink_to(tmp_path / "kept")
    main = runpy.run_path(str(ROOT / "examples" / "server_log.py"))["main"]
    run(tmp_path / "log.csv", main=main).refused("a link")
    run(main=main).refused("FILE.csv")
    assert (tmp_path / "kept").read_text() == "kept"
