"""The published Trace Event Format, as far as a timeline uses it, and what Perfetto asks beyond it.

Perfetto counts in whole nanoseconds, throws away a slice that overlaps another one of its thread without lying inside
it, and names a thread by its number alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Event = Mapping[str, Any]

KEYS: dict[str, dict[str, type]] = {  # phase: keys that an event of it has
    "X": {"name": str, "cat": str, "ts": float, "dur": float, "pid": int, "tid": int, "args": dict},
    "C": {"name": str, "ts": float, "pid": int, "args": dict},
    "b": {"name": str, "cat": str, "id": str, "ts": float, "pid": int, "tid": int},
    "e": {"name": str, "cat": str, "id": str, "ts": float, "pid": int, "tid": int},
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
}


def read(text: str) -> list[Event]:
    """The events of a file in the object form; numbers that JSON does not have are refused."""
    found = json.loads(text, parse_constant=_refuse)
    assert set(found) == {"displayTimeUnit", "otherData", "traceEvents"} and found["displayTimeUnit"] in ("ms", "ns")
    return found["traceEvents"]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def nanoseconds(microseconds: float) -> int:
    """A time as Perfetto keeps it."""
    return int(microseconds * 1000.0)


def check(events: Sequence[Event]) -> None:
    """Refuse, by an assertion, a trace that is not what the format and the viewers ask for."""
    for event in events:
        check_keys(event)
    check_names(events)
    for by, rule in (
        (lambda e: e["ph"] == "X" and (e["pid"], e["tid"]), check_slices),
        (lambda e: e["ph"] in "be" and (e["cat"], e["id"]), check_pairs),
        (lambda e: e["ph"] == "C" and (e["pid"], e["name"]), check_counter),
    ):
        for track in tracks(events, by):
            times = [event["ts"] for event in track]
            assert times == sorted(times), f"times go back: {track[0]}"
            rule(track)


def tracks(events: Sequence[Event], by: Callable[[Event], Any]) -> list[list[Event]]:
    """The events by what ``by`` says of each, in their order; without those of which it says False."""
    found: dict[Any, list[Event]] = {}
    for event in events:
        if (key := by(event)) is not False:
            found.setdefault(key, []).append(event)
    return list(found.values())


def check_keys(event: Event) -> None:
    """Every key of its phase, of its type; no time below 0; counters of numbers."""
    for key, kind in KEYS[event["ph"]].items():
        value = event[key]
        assert isinstance(value, kind) and not isinstance(value, bool), f"{key}: {event}"
        if kind is float:
            assert 0.0 <= event[key] < math.inf, f"{key}: {event}"
    if event["ph"] == "C":
        assert event["args"] and all(type(value) in (int, float) for value in event["args"].values()), event


def check_names(events: Sequence[Event]) -> None:
    """Every process, and every thread with slices, has one name; no thread has the number of another one."""
    given = [(e["name"], e["pid"], e["tid"]) for e in events if e["ph"] == "M"]
    assert all(isinstance(e["args"]["name"], str) and e["args"]["name"] for e in events if e["ph"] == "M")
    assert events[: len(given)] == [e for e in events if e["ph"] == "M"], "a name comes after an event"
    processes = [pid for name, pid, _ in given if name == "process_name"]
    threads = [(pid, tid) for name, pid, tid in given if name == "thread_name"]
    assert len(processes) + len(threads) == len(given), "metadata of another name"
    assert len(set(processes)) == len(processes) and {e["pid"] for e in events} == set(processes)
    assert len({tid for _, tid in threads}) == len(threads) == len(set(threads)), "a number of two threads"
    assert {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"} <= set(threads), "a thread without a name"


def check_slices(slices: Sequence[Event]) -> None:
    """No two overlap unless one lies inside the other, in floating point and in whole nanoseconds."""
    for count in (float, nanoseconds):
        ends: list[float] = []
        spans = [(count(e["ts"]), count(e["ts"]) + count(e["dur"])) for e in slices]
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while ends and ends[-1] <= begin:
                ends.pop()
            assert not ends or end <= ends[-1], f"overlap at {begin}"
            ends.append(end)


def check_pairs(events: Sequence[Event]) -> None:
    """Every begin has its end, of its name, and the pairs of a request lie inside one another, in one process."""
    open_: list[str] = []
    assert len({event["pid"] for event in events}) == 1, "an id of two processes"
    for event in events:
        if event["ph"] == "b":
            open_.append(event["name"])
        else:
            assert open_ and open_.pop() == event["name"], f"an end without its begin: {event}"
    assert not open_, f"no end: {open_}"


def check_counter(events: Sequence[Event]) -> None:
    """A value per time."""
    assert all(one["ts"] < other["ts"] for one, other in pairwise(events)), events[0]
