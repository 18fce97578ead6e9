"""Recorded sessions of coding agents (callanjfox/kv-cache-tester): a JSON document per session, a folder of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.files.reading import CannotReadError, json_of
from llmsched_env.files.showing import shortened, visible
from llmsched_env.files.writing import reason_of
from llmsched_env.requests import MAX_TOKENS
from llmsched_env.workload.contents import Contents, contents_of, mixed
from llmsched_env.workload.sessions.links import CLOCK_S, Links
from llmsched_env.workload.trace_text import read_text

_SUFFIXES = (".json", ".json.gz")


class Session(NamedTuple):
    """One session of N requests: times from its start in s, tokens, lists of ids, rows that release, think times."""

    time_s: list[float]
    prompt: list[int]
    output: list[int]
    ids: list[Any]
    parent: list[int]
    think_s: list[float]
    block: int


def is_session(raw: bytes) -> bool:
    """Whether a JSON document looks like such a session."""
    return b'"block_size"' in raw[:4096] and b'"requests"' in raw


def read_folder(path: Path) -> tuple[Any, ...]:
    """All sessions of a folder, by name; what traces.Columns holds."""
    try:
        files = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
    except OSError as error:
        raise CannotReadError(reason_of(error)) from None
    if not files:
        raise CannotReadError("it is a folder without sessions of agents (.json, .json.gz): give a file")
    sessions = []
    for file in files:
        try:
            raw = read_text(file)
            if not is_session(raw):
                raise ValueError("not a session of an agent (block_size, requests)")
            sessions.append(session_of(json_of(raw)))
        except ValueError as error:
            raise ValueError(f"{visible(file.name)}: {error}") from None
    return columns_of(sessions)


def columns_of(sessions: Sequence[Session]) -> tuple[Any, ...]:
    """Times, prompts, outputs, hashes, no classes, links: the rows of all sessions, one after the other."""
    starts = np.cumsum([0, *(len(one.time_s) for one in sessions)])
    blocks = {one.block for one in sessions if one.time_s}
    if len(blocks) > 1:
        raise ValueError(f"sessions with block_size {', '.join(map(str, sorted(blocks)))}: give those of one size.")
    prompt = _joined([one.prompt for one in sessions])
    of_one = zip(sessions, starts[:-1], strict=True)
    parents = [[row + start if row >= 0 else -1 for row in one.parent] for one, start in of_one]
    links = Links(_joined(parents).astype(np.int64), _joined([one.think_s for one in sessions]), True, False)
    time, output = _joined([one.time_s for one in sessions]), _joined([one.output for one in sessions])
    return time, prompt, output, _contents(sessions, prompt, blocks), None, links


def _joined(lists: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.array([value for values in lists for value in values], np.float64)


def _contents(sessions: Sequence[Session], prompt: NDArray, blocks: set[int]) -> Contents | None:
    """Hashes: ids are those of one session, so equal ids of two sessions stand for other tokens."""
    if not blocks:
        return None
    sizes = [len(one.time_s) for one in sessions]
    salt = mixed(np.repeat(np.arange(len(sessions)), sizes).astype(np.uint64) + np.uint64(1))
    lists = [ids for one in sessions for ids in one.ids]
    return contents_of(lists, prompt, blocks.pop(), whole=True, salt=salt)


def session_of(document: Any) -> Session:
    """The requests of a document.  A request waits for the last answer that is known to have come before it.

    Where the answers before it have no recorded time it waits for the request before it, and the time since that one's
    start counts as think time.  A request that begins while others run waits for none of them.
    """
    rows = document.get("requests") if isinstance(document, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError("a session without a list of requests.")
    block = _number(document, "block_size", 0, MAX_TOKENS)
    if block is None or block != int(block) or block < BLOCK_TOKENS or block % BLOCK_TOKENS:
        raise ValueError(
            f"block_size={shortened(str(document.get('block_size')))} is not allowed: give a multiple of 16."
        )
    found = Session([], [], [], [], [], [], int(block))
    ends: list[float] = []  # of answers; inf where it is not known
    for place, row in enumerate(rows):
        try:
            _add(found, ends, row, place)
        except ValueError as error:
            raise ValueError(f"request {place + 1}: {error}") from None
    return found


def _add(found: Session, ends: list[float], row: Any, place: int) -> None:
    """Append a request to the session."""
    if not isinstance(row, Mapping):
        raise ValueError(f"not a JSON object but {type(row).__name__}.")
    time = _number(row, "t", 0, 1e12, needed=True)
    prompt, output = (_number(row, key, 0, MAX_TOKENS, needed=True, whole=True) for key in ("in", "out"))
    think, answer = _number(row, "think_time", 0, 1e12), _number(row, "api_time", 0, 1e12)
    assert time is not None
    assert prompt is not None
    assert output is not None
    if found.time_s and time < found.time_s[-1]:
        raise ValueError(f"t={time:g} is before the request before it, {found.time_s[-1]:g}: a gap in the session.")
    parent = max((row for row in range(place) if ends[row] <= time + CLOCK_S), key=lambda row: ends[row], default=-1)
    if parent >= 0:
        think = max(0.0, time - ends[parent]) if think is None else think
    elif place:
        parent = place - 1
        think = time - found.time_s[parent] if think is None else think
    found.time_s.append(time)
    found.prompt.append(int(prompt))
    found.output.append(int(output))
    found.ids.append(row.get("hash_ids"))
    found.parent.append(parent)
    found.think_s.append(0.0 if parent < 0 or think is None else think)
    ends.append(math.inf if answer is None else time + answer)


def _number(
    row: Mapping[str, Any], key: str, low: float, high: float, *, needed: bool = False, whole: bool = False
) -> float | None:
    """The number under ``key``; None where there is none and none is needed."""
    value: Any = row.get(key)
    if value is None and not needed:
        return None
    known = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if known and (not whole or value % 1 == 0):
        return float(value)
    kind = "a whole number" if whole else "a number"
    raise ValueError(f"{key}={shortened(str(value))} is not allowed: give {kind} from {low:g} to {high:g}.")
