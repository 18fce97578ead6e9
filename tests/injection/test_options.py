"""Every option of every command with a list of bad values: refused in one line, or taken as the work begins."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from llmsched.command import COMMANDS
from llmsched.eval.cli import frame
from llmsched.eval.experiments import returns as experiment_returns
from llmsched.eval.runs.cells import Crew
from llmsched_env.commands.process import LONGEST
from tests.faults.tools import Ended, run
from tests.injection.test_readers import LONGEST_S, at_most
from tests.injection.tools import TRIED

BAD = (
    "",
    " ",
    "x",
    "nan",
    "inf",
    "-1",
    "-inf",
    "0",
    "1e400",
    "1e-320",
    "9" * 400,
    "1.5",
    "true",
    "None",
    "1,2",
    ":",
    "=",
    ",",
    "a=b",
    "é\u202e\x1b[31m$_{",
    "\udcff",
    "\x00",
    "/dev/null",
    "/",
    "x" * 5000,
    "[" * 5000,
    "%s%n{0}",
    "'; exit",
)
"""Values that suit few options, or none."""


class ReachedError(BaseException):
    """All options were accepted and the work begins: here it ends."""


@contextmanager
def without_work(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, no run is made."""

    def reached(*_: object, **__: object) -> None:
        raise ReachedError

    with monkeypatch.context() as patch:
        patch.setattr(frame.Session, "runs", reached)
        patch.setattr(Crew, "run_cells", reached)
        patch.setattr(experiment_returns, "returns", reached)
        yield


def options_of(words: str) -> list[str]:
    """The options in the help of a command that take a value."""
    shown = run("--help", main=importlib.import_module(COMMANDS[words][0]).main)
    assert shown.code == 0, shown
    return sorted(set(re.findall(r"^  (?:-\w \S+, )?(--[a-z][a-z0-9-]*) [A-Z{]", shown.out, re.MULTILINE)))


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in ("warmup", "bench", "vllm-parity")])
def test_bad_values(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback, no hang, exit code 2 with one line, unless the value is good enough for the work to begin."""
    pytest.importorskip(COMMANDS[words][0], reason="what the command needs is not installed")
    main = importlib.import_module(COMMANDS[words][0]).main
    monkeypatch.chdir(tmp_path)
    options = options_of(words)
    assert options, words
    if words == "returns":  # its policies are compiled before a clock runs
        with without_work(monkeypatch), suppress(ReachedError):
            run(main=main)
    for option in options:
        for value in BAD:
            ended = None
            with without_work(monkeypatch), at_most(LONGEST_S):
                try:
                    ended = run(option, value, main=main)
                except ReachedError:
                    TRIED[f"bad values that were taken ({words})"] += 1
            if ended is not None:
                assert_well(ended, (option, value[:40]))
            TRIED[f"bad values ({words})"] += 1


def assert_well(ended: Ended, about: object) -> None:
    """Exit code 0, or 2 with one short line that acts on no terminal."""
    assert ended.code in (0, 2), (about, ended)
    assert "\x1b" not in ended.out + ended.err and "Traceback" not in ended.err, (about, ended)
    if ended.code == 2:
        lines = [line for line in ended.err.splitlines() if "warning: " not in line]
        assert ended.out == "" and len(lines) == 1 and "error: " in lines[0], (about, ended)
        assert len(lines[0]) < LONGEST + 200, about


@pytest.mark.skipif(os.name == "nt", reason="file names of POSIX")
def test_words_that_are_no_command() -> None:
    """The command llmsched names the nearest."""
    from llmsched.command import split

    for value in BAD:
        with pytest.raises(ValueError, match="is not a command"):
            split([value])
        TRIED["words that are no command"] += 1
