"""The steps of an engine, one JSON object a line: composition and time, for profiles of the user's own server.

Times are seconds since the server began, which its first line states as seconds of the system's clock.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsched_env.files.writing import check_file

SERVER = "server"
"""Key of the line that says what the server is."""

REQUEST = ("added_s", "first_s", "done_s")
"""Times of the line of a request: when the scheduler heard of it, its first token, its last."""


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
    """A file to which the steps of a server are appended, and its requests as they end.

    Its first line says what the server is (``about``).  Lines are collected, and written in one go when there are many
    or the server is idle.
    """

    LINES = 256
    """Lines that are collected at most."""

    REQUESTS = 100_000
    """Requests under way that are remembered at most."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        check_file(path, "steps")
        self._file = path.open("a", encoding="utf-8")
        self._lines: deque[dict[str, Any]] = deque()
        self._times: dict[str, list[float]] = {}  # by request: when it came, and its first token
        self.add({SERVER: dict(about)})
        self.flush()

    def add(self, line: dict[str, Any]) -> None:
        """One more line."""
        self._lines.append(line)
        if len(self._lines) >= self.LINES:
            self.flush()

    def arrived(self, name: str, now: float) -> None:
        """The scheduler hears of a request."""
        self._times[name] = [now]
        if len(self._times) > self.REQUESTS:  # those whose client went away get no last token
            del self._times[next(iter(self._times))]

    def produced(self, outputs: Mapping[int, Any], now: float) -> None:
        """A step gave ``outputs`` (vLLM's, by client): a request that ends becomes a line."""
        for group in outputs.values():
            for output in group.outputs:
                times = self._times.get(output.request_id)
                if times is None:
                    continue
                if output.new_token_ids and len(times) == 1:
                    times.append(now)
                if output.finish_reason is not None:
                    del self._times[output.request_id]
                    shown = [round(time, 6) for time in (*times, now)]
                    if len(shown) == 3:
                        self.add({"request": output.request_id, **dict(zip(REQUEST, shown, strict=True))})

    def flush(self) -> None:
        """Write what was collected."""
        self._file.write("".join(json.dumps(line) + "\n" for line in self._lines))
        self._file.flush()
        self._lines.clear()


class StepClock:
    """How long steps take: from the end of the one before where the server was busy since, else from composition.

    So the time of the host between two steps belongs to the later one, and waiting for requests to none.
    """

    def __init__(self) -> None:
        self._end, self._busy = 0.0, False

    def seconds(self, step: Step, now: float, *, busy: bool) -> float:
        """Seconds of the ``step`` that ends ``now``; ``busy``: whether members are left that the next one serves."""
        began = self._end if self._busy else max(self._end, step.at)
        self._end, self._busy = now, busy
        return now - began
