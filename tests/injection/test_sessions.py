"""Damaged traces of sessions: a folder of recorded agents, by bytes, by fields and by what else lies in it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from llmsched.eval import compare
from tests.faults.tools import Ended, run
from tests.injection.test_readers import LONGEST_S, assert_well, at_most
from tests.injection.tools import TRIED, damaged, replaced
from tests.workload.test_sessions import SESSION, agent, chats

CONTINUOUS = ["--engine", "continuous", "--policies", "fcfs", "--rate", "2"]


def compared(path: Path) -> Ended:
    """A comparison on these sessions."""
    with at_most(LONGEST_S):
        return run(*CONTINUOUS, "--workload", path, main=compare.main)


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """A folder of three sessions."""
    folder = tmp_path / "sessions"
    folder.mkdir()
    for name in ("a.json", "b.json", "c.json.gz"):
        agent(folder / name, SESSION)
    assert compared(folder).code == 0  # compiled before a clock runs
    return folder


@pytest.mark.parametrize("name", ["a.json", "c.json.gz"])
def test_damaged_sessions(sessions: Path, name: str) -> None:
    """A refusal names the file; the whole folder is refused, or read without harm."""
    whole = (sessions / name).read_bytes()
    copies = [pair for seed in range(2) for pair in damaged(whole, seed)]
    if name.endswith(".gz"):
        copies += [
            (f"inside, {about}", gzip.compress(content)) for about, content in damaged(gzip.decompress(whole), 0)
        ]
    for about, content in copies:
        (sessions / name).write_bytes(content)
        ended = compared(sessions)
        assert_well(ended, about)
        assert ended.code == 0 or "sessions" in ended.err, (about, ended)
        TRIED[f"damaged sessions ({name})"] += 1


def test_fields_of_a_session(sessions: Path) -> None:
    """Of the document, and of one of its requests."""
    whole = json.loads((sessions / "a.json").read_text())
    rows = whole["requests"]
    copies = list(replaced(whole))
    copies += [(about, whole | {"requests": [*rows[:1], row, *rows[2:]]}) for about, row in replaced(rows[1])]
    for about, changed in copies:
        (sessions / "a.json").write_text(json.dumps(changed))
        assert_well(compared(sessions), about)
        TRIED["fields of a session"] += 1


def test_damaged_conversations(tmp_path: Path) -> None:
    """Bailian: chats that name the one before them, by bytes and by fields."""
    path = chats(tmp_path / "chats.jsonl", *((n, n - 1 if n % 3 else -1, 0.5 * n) for n in range(12)))
    whole = path.read_bytes()
    assert compared(path).code == 0
    lines = whole.splitlines(keepends=True)
    copies: list[tuple[object, bytes]] = [pair for seed in range(2) for pair in damaged(whole, seed)]
    for about, changed in replaced(json.loads(lines[4])):
        copies.append((about, b"".join([*lines[:4], json.dumps(changed).encode() + b"\n", *lines[5:]])))
    for about, content in copies:
        path.write_bytes(content)
        assert_well(compared(path), about)
        TRIED["damaged conversations"] += 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_what_else_lies_in_a_folder_of_sessions(sessions: Path) -> None:
    """What is named like a session and is none is refused with its name; everything else is not looked at."""
    (sessions / "notes.txt").write_bytes(b"\xff")
    (sessions / "empty").mkdir()
    assert compared(sessions).code == 0
    odd = sessions / "odd.json"
    for make in (
        odd.mkdir,
        lambda: os.mkfifo(odd),
        lambda: odd.symlink_to("gone"),
        lambda: odd.symlink_to("/dev/zero"),
    ):
        make()
        compared(sessions).refused("odd.json")
        odd.rmdir() if odd.is_dir() else odd.unlink()
        TRIED["odd things in a folder of sessions"] += 1
    for name in ("\x1b[31m.json", "$_{.json"):
        (sessions / name).write_text("{}")
        assert "\x1b" not in compared(sessions).refused("not a session of an agent")
        (sessions / name).unlink()
