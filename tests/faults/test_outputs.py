"""What outputs are written onto: nothing is removed, replaced through a link, waited for, or touched too early."""

from __future__ import annotations

import os
import runpy
import socket
import stat
from pathlib import Path

import pytest

from llmsched.eval import bench
from llmsched_env.files import writing
from llmsched_env.files.writing import CannotWriteError, append_bytes, check_file, write_bytes, write_text
from tests.faults.tools import ROOT, run, snapshot

OPTIONS = ("--report", "--timeline")


def odd_places(folder: Path) -> dict[str, Path]:
    """One of every kind of thing that is no regular file, by its kind."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "real").write_text("real")
    (folder / "link").symlink_to(folder / "real")
    (folder / "dangling").symlink_to(folder / "nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return {
        "a folder": folder / "folder",
        "a pipe": folder / "pipe",
        "a link": folder / "link",
        "a link ": folder / "dangling",
        "a socket": folder / "socket",
        "a device": Path(os.devnull),
    }


def kinds(folder: Path) -> dict[str, int]:
    """Mode and place of everything in ``folder``."""
    return {path.name: path.lstat().st_mode for path in folder.iterdir()} | {"null": os.lstat(os.devnull).st_mode}


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path, option: str) -> None:
    """Links, devices, pipes, sockets and folders: as root, removing /dev/null would work."""
    places = odd_places(tmp_path)
    before = kinds(tmp_path)
    for kind, place in places.items():
        run(option, place).refused(option, str(place), kind.strip())
    assert kinds(tmp_path) == before
    assert (tmp_path / "real").read_text() == "real" and not (tmp_path / "nowhere").exists()
    assert stat.S_ISCHR(os.lstat(os.devnull).st_mode)


def test_files_in_out_that_are_no_regular_files_are_refused_and_stay(tmp_path: Path) -> None:
    """A link at results.csv or at cells.jsonl is not followed, a pipe is not waited for."""
    for name in ("results.csv", "summary.json", "manifest.json", "cells.jsonl"):
        out = tmp_path / name
        out.mkdir()
        (tmp_path / "kept").write_text("kept")
        (out / name).symlink_to(tmp_path / "kept")
        run("--out", out).refused("--out", name, "a link")
        (out / name).unlink()
        os.mkfifo(out / name)
        run("--out", out).refused("--out", name, "a pipe")
        assert [path.name for path in out.iterdir()] == [name]
        assert (tmp_path / "kept").read_text() == "kept"


def test_nothing_is_touched_before_all_options_are_accepted(tmp_path: Path) -> None:
    """Neither the folder of --out nor the other files, nor the content of those that are there."""
    old = tmp_path / "old.html"
    old.write_text("")
    for words in (["--policies", "statik"], ["--workload", "none"], ["--policies", "fcfs"], ["--bins", "0"]):
        made = run(*words, "--out", tmp_path / "a" / "b", "--report", old, "--timeline", tmp_path / "t.json")
        made.refused()
        assert snapshot(tmp_path) == {"old.html": b""} and len(list(tmp_path.iterdir())) == 1
    run("--only", "kernel", "--json", tmp_path / "no" / "x.json", main=bench.main).refused("--json")


def test_a_file_that_is_replaced_keeps_its_mode_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    """As the shell would make it; and no draft is left."""
    (tmp_path / "private.html").write_text("old")
    (tmp_path / "private.html").chmod(0o600)
    old = os.umask(0o027)
    try:
        made = run("--report", tmp_path / "private.html", "--timeline", tmp_path / "new.json")
    finally:
        os.umask(old)
    assert made.code == 0
    assert stat.S_IMODE((tmp_path / "private.html").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o640
    assert (tmp_path / "private.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.json", "private.html"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    """As an editor would keep it."""
    file = tmp_path / "x"
    file.write_text("old")
    os.chown(file, 12345, 12345)
    write_text(file, "new")
    assert (file.stat().st_uid, file.stat().st_gid, file.read_text()) == (12345, 12345, "new")


def test_two_outputs_are_two_files_and_no_input_is_replaced(tmp_path: Path) -> None:
    """The same file by two names, a file of --out, the trace, the policy's source."""
    trace, policy = tmp_path / "trace.csv", tmp_path / "mine.py"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,5,5\n2,5,5\n")
    policy.write_text("def mine(record, params, memory, rng):\n    return record.num_bins, 1\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "out")
    before = snapshot(tmp_path)
    same = tmp_path / "same.html"
    run("--report", same, "--timeline", same).refused("--timeline", "--report")
    for file in ("summary.json", "cells.jsonl"):
        run("--out", tmp_path / "out", "--report", tmp_path / "other" / file).refused("--report", file, "--out")
    run("--workload", trace, "--report", trace).refused("--report", "--workload")
    run("--policies", f"static,{policy}:mine", "--timeline", policy).refused("--timeline", "--policies")
    assert snapshot(tmp_path) == before


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the end of a write, and at the move."""
    file = tmp_path / "x"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(writing.os, name, full)
            with pytest.raises(CannotWriteError, match="No space left"):
                write_bytes(file, b"new")
        assert snapshot(tmp_path) == {"x": b"old"}


def test_a_draft_cannot_be_prepared_by_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name cannot be guessed; if it could, what lies there would not be followed."""
    (tmp_path / "kept").write_text("kept")
    monkeypatch.setattr(writing.secrets, "token_hex", lambda _: "known")
    (tmp_path / ".llmsched-known.part").symlink_to(tmp_path / "kept")
    with pytest.raises(CannotWriteError):
        write_text(tmp_path / "x", "new")
    assert (tmp_path / "kept").read_text() == "kept" and not (tmp_path / "x").exists()


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes a part of a line: it is taken back.  A line that was cut off is ended first."""
    file, write = tmp_path / "lines", os.write
    assert append_bytes(file, b"first\n") == 6
    monkeypatch.setattr(writing.os, "write", lambda handle, data: write(handle, bytes(data)[:3]) if data else 0)
    assert append_bytes(file, b"second\n") == 13  # in pieces

    def filling(handle: int, data: bytes) -> int:
        if len(data) < 6:
            raise OSError(28, "No space left on device")
        return write(handle, bytes(data)[:3])

    monkeypatch.setattr(writing.os, "write", filling)
    with pytest.raises(CannotWriteError, match="No space left"):
        append_bytes(file, b"third\n")
    monkeypatch.undo()
    assert file.read_bytes() == b"first\nsecond\n"
    file.write_bytes(b"first\nsec")
    append_bytes(file, b"third\n")
    assert file.read_bytes() == b"first\nsec\nthird\n"


def test_places_that_no_file_can_have(tmp_path: Path) -> None:
    """Names that are too long, below a file, in a folder that is not there."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / ("x" * 300), tmp_path / "file" / "x", tmp_path / "no" / "x"):
        with pytest.raises(CannotWriteError, match="cannot be written"):
            check_file(place, "--report")
    run("--out", tmp_path / ("x" * 300)).refused("--out", "give a folder")


def test_the_log_of_a_server_replaces_no_link(tmp_path: Path) -> None:
    """As every output."""
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "log.csv").symlink_to(tmp_path / "kept")
    main = runpy.run_path(str(ROOT / "examples" / "server_log.py"))["main"]
    run(tmp_path / "log.csv", main=main).refused("a link")
    run(main=main).refused("FILE.csv")
    assert (tmp_path / "kept").read_text() == "kept"
