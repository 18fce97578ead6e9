"""Runs the commands that marks name; one command in a session runs once."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


class CommandError(RuntimeError):
    """A command that failed: the command and its last line."""


class Commands:
    """Runs commands from the root of the checkout; ``traces``: a folder with trace files that the project lacks."""

    def __init__(self, traces: Path | None = None, jobs: int | None = None) -> None:
        self._traces, self._jobs = traces, jobs
        self._done: dict[str, str] = {}
        self._folders: list[tempfile.TemporaryDirectory[str]] = []

    def missing(self, file: str) -> bool:
        """Whether a trace file that a mark needs is not there."""
        return bool(file) and (self._traces is None or not (self._traces / file).is_file())

    def output(self, command: str, *more: str) -> str:
        """What ``command`` prints, with the options ``more``."""
        words = [*shlex.split(command), *more]
        key = shlex.join(words)
        if key not in self._done:
            self._done[key] = self._run(words)
        return self._done[key]

    def summary(self, command: str) -> Any:
        """The summary that ``command --json`` prints."""
        return json.loads(self.output(command, "--json"))

    def figure(self, command: str, name: str) -> bytes:
        """The figure ``name`` that ``command --out`` draws."""
        folder = tempfile.TemporaryDirectory(prefix="made-")
        self._folders.append(folder)
        self._run([*shlex.split(command), "--out", folder.name])
        path = Path(folder.name) / "figures" / name
        if not path.is_file():
            there = ", ".join(sorted(file.name for file in path.parent.glob("*.png"))) or "none"
            raise CommandError(f"{command}: draws no figure {name}; there are {there}")
        return path.read_bytes()

    def _run(self, words: Sequence[str]) -> str:
        if words[0] != "python":
            raise CommandError(f"{shlex.join(words)}: a command begins with python")
        if self._traces is not None:
            words = [str(self._traces / word) if (self._traces / word).is_file() else word for word in words]
        jobs = [] if self._jobs is None else ["--jobs", str(self._jobs)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *words[1:], *jobs], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CommandError(f"{shlex.join(words)}: exit status {done.returncode}: {last}")
        return done.stdout
