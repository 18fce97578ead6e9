"""The process that compiles small functions beside an engine: nobody waits for it, and nothing depends on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmsched_env.compiler import beside

MAIN = """
import os, sys, time
from pathlib import Path
from llmsched_env.compiler import beside
here = Path(__file__).parent
(here / f"main_{os.getpid()}").write_text("")
os.sched_getaffinity = lambda process: {0, 1}
beside.MODULE = "work"
for _ in range(3):
    beside.start_beside()
print(len(beside._started))
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until and not list(here.glob("did_*")):
    time.sleep(0.05)
"""
"""A program whose main module has no guard; it waits so many seconds for a sign of the other process."""

WORK = """
import os, sys
from pathlib import Path
def compile_small():
    file = Path(__file__).with_name(f"did_{os.getpid()}")
    file.write_text(os.environ["LLMSCHED_COMPILE_ALONE"] + str(sys.stdin.read()))
"""


def run(folder: Path, work: str, *, seconds: int = 60, **more: str) -> subprocess.CompletedProcess[str]:
    """The program with this other process, in a folder that hides modules of Python."""
    folder.joinpath("main.py").write_text(MAIN)
    folder.joinpath("work.py").write_text(work)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "importlib.py").write_text("raise SystemExit")
    environment = {name: value for name, value in os.environ.items() if name != beside.ALONE}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.run(
        [sys.executable, str(folder / "main.py"), str(seconds)],
        cwd=folder / "elsewhere",
        env={**environment, "PYTHONPATH": path, **more},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def test_it_runs_once_and_alone(tmp_path: Path) -> None:
    """One process for three calls; it imports no main module and nothing of the folder that the user is in."""
    done = run(tmp_path, WORK)
    assert done.stdout == "1\n" and not done.stderr
    (did,) = tmp_path.glob("did_*")
    (main,) = tmp_path.glob("main_*")
    assert did.read_text() == "1" and did.name[4:] != main.name[5:]


@pytest.mark.parametrize("work", ["raise ValueError", "import os; os.abort()", "", "import sys; sys.exit(3)"])
def test_what_becomes_of_it_does_not_matter(tmp_path: Path, work: str) -> None:
    """Nothing is said, nobody waits."""
    done = run(tmp_path, work, seconds=2)
    assert done.stdout == "1\n" and not done.stderr


def test_it_ends_with_the_program(tmp_path: Path) -> None:
    """It would take minutes; the program does not wait, and it is gone soon after."""
    began = time.monotonic()
    run(tmp_path, f"import time\n{WORK}    time.sleep(600)\n")
    assert time.monotonic() - began < 60
    (did,) = tmp_path.glob("did_*")
    until = time.monotonic() + 10
    while time.monotonic() < until and is_running(int(did.name[4:])):
        time.sleep(0.05)
    assert not is_running(int(did.name[4:]))


def is_running(process: int) -> bool:
    """Whether there is such a process, and not as a zombie that nobody has asked for yet."""
    try:
        os.kill(process, 0)
    except OSError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


REASONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "one core": lambda patch: patch.setattr(beside.os, "sched_getaffinity", lambda process: {3}, raising=False),
    "no interpreter": lambda patch: patch.setattr(beside.sys, "executable", ""),
    "frozen": lambda patch: patch.setattr(beside.sys, "frozen", True, raising=False),
    "asked not to": lambda patch: patch.setenv(beside.ALONE, "1"),
    "a child": lambda patch: patch.setattr(beside.multiprocessing, "parent_process", lambda: object()),
}


@pytest.mark.parametrize("reason", REASONS)
def test_there_are_reasons_to_start_none(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself."""
    monkeypatch.delenv(beside.ALONE, raising=False)
    monkeypatch.setattr(beside.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(beside.multiprocessing, "parent_process", lambda: None)
    assert beside.may_start()
    REASONS[reason](monkeypatch)
    assert not beside.may_start()


def test_a_system_that_starts_no_process_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then this process compiles everything."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(beside, "may_start", lambda: True)
    monkeypatch.setattr(beside, "_started", [])
    monkeypatch.setattr(beside.subprocess, "Popen", refuse)
    beside.start_beside()
    assert not beside._started
