"""Logs of steps, read and checked: those of the scheduler classes in policies/vllm, and vLLM's own iteration log."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmsched.eval.calibration.cells import Work
from llmsched.eval.reality.steps.iteration_log import iterations
from llmsched.policies.vllm.steps import REQUEST, SERVER
from llmsched_env.files.reading import CannotReadError, read_bytes

MOST_BYTES = 2**30
"""Most bytes of a log."""

OWN_TO_A_START = ("origin_s", "policy")
"""What may differ between the servers of one fit."""


@dataclass(frozen=True)
class LoggedStep:
    """A step: its ``work``, how long it took, when it ended (s of the system's clock), requests that waited.

    ``longest``: of its chunks, the most tokens of one prompt that are prefilled with it.
    """

    work: Work
    ms: float
    end_s: float = math.nan
    running: int = 0
    waiting: int = 0
    longest: int = 0


@dataclass(frozen=True)
class RequestTimes:
    """A request inside a server: when its scheduler heard of it, first token, last token; s of the system's clock."""

    added_s: float
    first_s: float
    done_s: float


@dataclass
class LoggedServer:
    """What a log says: the ``server`` (empty where it does not say), its steps, the requests that ended."""

    server: dict[str, Any] = field(default_factory=dict)
    steps: list[LoggedStep] = field(default_factory=list)
    requests: list[RequestTimes] = field(default_factory=list)
    of_vllm: bool = False  # vLLM's own log, which lacks the context and the squares

    @property
    def origin_s(self) -> float:
        """From when the lines count; 0 where the log does not say."""
        return number(self.server.get("origin_s", 0.0), "origin_s")


def read_log(path: Path, kv_tokens: float = math.inf) -> LoggedServer:
    """The log in a file; ``ValueError`` in one line names the file, the line and the remedy.

    ``kv_tokens``: memory of the server, from which vLLM's own log gives the context.  A last line that a killed server
    left unfinished is left out.
    """
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8", errors="replace")
    except CannotReadError as error:
        raise ValueError(f"{path}: not readable ({error}).") from None
    if not text.lstrip().startswith("{"):
        steps = [LoggedStep(work, ms) for work, ms in iterations(text, kv_tokens)]
        if not steps:
            raise ValueError(
                f"{path}: no steps: give a file that LLMSCHED_VLLM_STEPS named, or the log of a vLLM that was started "
                "with --enable-logging-iteration-details."
            )
        return LoggedServer(steps=steps, of_vllm=True)
    found = LoggedServer()
    lines = text.split("\n")
    if lines[-1]:
        lines.pop()  # not finished
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                take_line(found, json.loads(line))
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
                raise ValueError(f"{path}, line {number}: not a line of a log of steps ({what}).") from None
    return found


def take_line(found: LoggedServer, line: Any) -> None:
    """Add a line to what was found; ``ValueError``, ``TypeError`` or ``KeyError`` where it is none."""
    if not isinstance(line, dict):
        raise ValueError(f"{type(line).__name__}, not an object")
    if SERVER in line:
        merge_server(found.server, line[SERVER])
    elif "request" in line:
        found.requests.append(RequestTimes(*(found.origin_s + number(line[name], name) for name in REQUEST)))
    else:
        found.steps.append(step_of(line, found.origin_s))


def merge_server(known: dict[str, Any], other: Mapping[str, Any]) -> None:
    """What is known of the server, with another start of it; ``ValueError`` where they are not alike."""
    if not isinstance(other, dict):
        raise ValueError(f"{SERVER} is no object")
    for name, value in other.items():
        if name not in OWN_TO_A_START and known.get(name, value) != value:
            raise ValueError(f"another server than before: {name} {value!r}, not {known[name]!r}: fit them apart")
    known.update(other)


def number(value: Any, name: str, least: float = -math.inf) -> float:
    """A finite number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
        raise ValueError(f"{name}={value!r}")
    return float(value)


def step_of(line: Mapping[str, Any], origin_s: float = 0.0) -> LoggedStep:
    """The step in a line, of a server whose times count from ``origin_s``."""
    ms = number(line["ms"], "ms", 0.0)
    decodes, context = number(line["decodes"], "decodes", 0), number(line["kv"], "kv", 0)
    tokens = squares = longest = 0.0
    for chunk in line["chunks"]:
        done, own = (number(each, "chunks", 0) for each in chunk)
        tokens, squares = tokens + own, squares + (done + own) ** 2 - done**2
        longest = max(longest, done + own)
    if not decodes and not tokens:
        raise ValueError("a step without work")
    if decodes and context < decodes:
        raise ValueError(f"kv={context:g} for {decodes:g} requests that decode")
    return LoggedStep(
        Work(decodes, context, tokens, squares),
        ms,
        origin_s + number(line["end_s"], "end_s"),
        int(number(line["running"], "running", 0)),
        int(number(line["waiting"], "waiting", 0)),
        int(longest),
    )


def merge_logs(logs: Sequence[LoggedServer]) -> LoggedServer:
    """Logs of servers that are alike as one; ``ValueError`` where they are not."""
    found = LoggedServer(of_vllm=any(log.of_vllm for log in logs))
    for log in logs:
        merge_server(found.server, log.server)
        found.steps += log.steps
        found.requests += log.requests
    return found
