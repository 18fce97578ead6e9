"""The steps of an engine, one JSON object a line: composition and time, for profiles of the user's own server."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsched_env.files.writing import check_file


@dataclass(frozen=True)
class Step:
    """What one step computes.

    ``decodes`` requests decode, with ``kv`` tokens of context in sum.  ``chunks``: (tokens prefilled before, tokens)
    of every prompt chunk.  ``at``: when it was composed, s.
    """

    at: float
    decodes: int
    kv: int
    chunks: tuple[tuple[int, int], ...]
    running: int
    waiting: int

    def as_json(self, end: float, seconds: float) -> dict[str, Any]:
        """The line of the log: ``end`` and ``ms`` of the step."""
        return {
            "end_s": round(end, 6),
            "ms": round(1e3 * seconds, 4),
            "decodes": self.decodes,
            "kv": self.kv,
            "chunks": self.chunks,
            "running": self.running,
            "waiting": self.waiting,
        }


class StepLog:
    """Lines are collected, and written in one go when there are many or the server is idle."""

    LINES = 256
    """Lines that are collected at most."""

    def __init__(self, path: Path) -> None:
        check_file(path, "steps")
        self._file = path.open("a", encoding="utf-8")
        self._lines: deque[dict[str, Any]] = deque()

    def add(self, line: dict[str, Any]) -> None:
        """One more line."""
        self._lines.append(line)
        if len(self._lines) >= self.LINES:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        self._file.write("".join(json.dumps(line) + "\n" for line in self._lines))
        self._file.flush()
        self._lines.clear()
