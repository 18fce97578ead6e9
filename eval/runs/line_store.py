"""Rows kept by key in a file of lines, each with a digest: a damaged line loses itself and nothing else.

A line is ``{"digest":"...","key":"...",...}``, the digest over all that follows it.  Several processes may append.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from llmsched_env.commands.terminal import say
from llmsched_env.files.reading import CannotReadError, check_regular
from llmsched_env.files.writing import append_bytes, make_folder

T = TypeVar("T")

LONGEST = 2**26
"""Most bytes of a line; what is longer is damaged."""

_HEAD = re.compile(rb'\{"digest":"([0-9a-f]{32})",("key":"([^"\\]{1,64})".*\})\n?', re.DOTALL)


class LineStore:
    """Rows by key.  Memory holds only where each begins in the file; the file is made by the first `put`."""

    def __init__(self, path: Path) -> None:
        """Look at the rows in ``path``, where it exists; ``ValueError`` for anything but a regular file."""
        self.path = path
        self.damaged = 0
        self._places: dict[str, int] = {}
        if os.path.lexists(path):
            self._look()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        """The keys of all rows, in the order of the file."""
        return iter(sorted(self._places, key=self._places.__getitem__))

    def get(self, key: str, read: Callable[[dict[str, Any]], T]) -> T | None:
        """What ``read`` makes of the row stored under ``key``.

        None where there is no row, where it was damaged since, or where ``read`` fails: then another program wrote it.
        """
        if key not in self._places:
            return None
        try:
            with self.path.open("rb") as file:
                file.seek(self._places[key])
                found = _HEAD.fullmatch(file.readline(LONGEST))
        except OSError:
            found = None
        if found is not None and found[1] == digest_of(found[2]) and found[3].decode() == key:
            with suppress(ValueError, TypeError, LookupError, RecursionError, OverflowError):
                return read(json.loads(b"{" + found[2]))
        del self._places[key]
        return None

    def put(self, key: str, row: Mapping[str, Any]) -> None:
        """Store a row; on return it is in the file.  `CannotWriteError` where that fails."""
        rest = json.dumps({"key": key, **row}, separators=(",", ":")).encode()[1:]
        line = b'{"digest":"' + digest_of(rest) + b'",' + rest + b"\n"
        make_folder(self.path.parent)
        self._places[key] = append_bytes(self.path, line) - len(line)

    def _look(self) -> None:
        try:
            check_regular(self.path)
            place = 0
            with self.path.open("rb") as file:
                while line := file.readline(LONGEST):
                    found = _HEAD.fullmatch(line)
                    if found is not None and found[1] == digest_of(found[2]):
                        self._places[found[3].decode()] = place
                    else:
                        self.damaged += 1
                    place += len(line)
        except (CannotReadError, OSError) as error:
            raise ValueError(f"{str(self.path)!r} cannot be read ({error}): give another --out.") from None
        if self.damaged:
            say(
                f"{self.path.name}: {self.damaged} of {self.damaged + len(self._places)} lines are cut off, damaged or "
                f"of an earlier version: what they held is made again."
            )


def digest_of(content: bytes) -> bytes:
    """SHA-256, 32 hexadecimal digits of it."""
    return hashlib.sha256(content).hexdigest()[:32].encode()
