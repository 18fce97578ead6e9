"""What is done to files and to the system, and where what was tried is counted."""

from __future__ import annotations

import copy
import errno
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llmsched_env.files import writing

TRIED: Counter[str] = Counter()
"""How many faults of every kind were injected; printed at the end."""


class KilledError(BaseException):
    """The process is killed here: nothing that follows happens."""


WRITES = ("open", "write", "fsync", "replace", "ftruncate")
"""The calls of the system by which files are written."""


class CountedSystem:
    """The module ``os`` for llmsched_env.files.writing, in which call number ``at`` of those that write fails."""

    def __init__(self, at: int, fail: Callable[[str], BaseException]) -> None:
        self.calls, self._at, self._fail = 0, at, fail

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in WRITES:
            return real

        def counted(*arguments: Any, **words: Any) -> Any:
            self.calls += 1
            if self.calls == self._at:
                raise self._fail(name)
            return real(*arguments, **words)

        return counted


def disk_full(name: str) -> BaseException:
    """What a full disk answers."""
    return OSError(errno.ENOSPC, "No space left on device")


def read_only(name: str) -> BaseException:
    """What a disk answers that was made read-only."""
    return OSError(errno.EROFS, "Read-only file system")


def killed(name: str) -> BaseException:
    """A kill."""
    return KilledError(name)


@contextmanager
def failing(at: int, fail: Callable[[str], BaseException]) -> Iterator[CountedSystem]:
    """Inside, the write number ``at`` fails."""
    system = CountedSystem(at, fail)
    writing.os = system  # type: ignore[assignment]
    try:
        yield system
    finally:
        writing.os = os


def damaged(content: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged copies of a file: cut off, a bit turned, bytes put in, taken out or repeated, empty, of another type."""
    rng = random.Random(seed)
    size = max(1, len(content))
    for part in (0.0, 0.1, 0.5, 0.9, 0.999):
        yield f"cut off at {part}", content[: int(part * size)]
    for number in range(12):
        place = rng.randrange(size)
        turned = bytes([content[place] ^ (1 << rng.randrange(8))]) if content else b"x"
        yield f"bit {number}", content[:place] + turned + content[place + 1 :]
        yield f"put in {number}", content[:place] + rng.randbytes(rng.randrange(1, 40)) + content[place:]
        yield f"taken out {number}", content[:place] + content[place + rng.randrange(1, 40) :]
    yield "garbage", rng.randbytes(5000)
    yield "zeros", bytes(5000)
    yield "twice", content + content
    yield "deep JSON", b"[" * 100_000
    yield "deep object", b'{"a":' * 50_000
    yield "digits", b"9" * 5000
    yield "many columns", b",".join(b"a%d" % place for place in range(50_000)) + b"\n" + b"1," * 49_999 + b"1"
    yield "many columns more", content.split(b"\n", 1)[0] + b",x" * 50_000 + b"\n" + b"1" + b",1" * 50_010
    yield "null", b"null\n"
    yield "list", b"[1, 2]\n"
    yield "text", b"hello\n"
    yield "pickle", b"cos\nsystem\n(S'false'\ntR."
    yield "UTF-16", "x".encode("utf-16") * 10
    yield "NaN", content.replace(b"1", b"NaN")
    yield "large", content.replace(b"1", b"1" * 400)
    yield "negative", content.replace(b"1", b"-1")
    yield "truth", content.replace(b"1", b"true")


WRONG: tuple[Any, ...] = (None, [], {}, "x", -1, 0, 2.5, 1e308, 10**9, 10**30, 10**400, True, float("nan"), [[1]])
"""Values that suit few fields, or none."""


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all fields, inner ones too, and of the first and the last entry of every list."""
    inner = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        inner = [(place, value[place]) for place in sorted({0, len(value) - 1}) if value]
    for key, part in inner:
        yield (*before, key)
        yield from places(part, (*before, key))


def replaced(document: Any) -> Iterator[tuple[object, Any]]:
    """Copies of the document in which one field has a wrong value."""
    for path in places(document):
        for value in WRONG:
            changed = copy.deepcopy(document)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            yield (path, str(value)[:40]), changed
