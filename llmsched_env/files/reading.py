"""Files of others, read in bounded work: only regular files, only so many bytes, JSON of bounded depth and numbers."""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmsched_env.files.writing import kind_of, reason_of

MOST_BYTES = 4 * 2**30
"""Most bytes of a file that is read whole, after unpacking."""

MOST_JSON = 64 * 2**20
"""Most bytes of a JSON document."""

MOST_RATIO = 200
"""Most bytes that a byte of gzip may unpack to, past the first FREE; text unpacks to about ten."""

FREE = 64 * 2**20
PIECE = 2**20


MOST_DIGITS = 300
"""Most digits of a whole number in JSON: a larger one is no float."""


class CannotReadError(ValueError):
    """A file cannot be read; the text is a reason in one line, without the name of the file."""


def check_regular(path: Path) -> int:
    """The size in bytes of the regular file at ``path``; `CannotReadError` says what else is there."""
    try:
        there = path.stat()
    except FileNotFoundError:
        raise CannotReadError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise CannotReadError(reason_of(error) if isinstance(error, OSError) else str(error)) from None
    if not stat.S_ISREG(there.st_mode):
        kind = kind_of(there.st_mode) or "no regular file"
        raise CannotReadError(f"it is {kind}: give a regular file (write what comes from a pipe to a file first)")
    return there.st_size


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """All bytes of a regular file of at most ``most`` bytes; `CannotReadError` in words."""
    size = check_regular(path)
    if size > most:
        raise CannotReadError(f"it has {size:,} bytes: at most {most:,} are read")
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            found = file.read(most + 1)
    except OSError as error:
        raise CannotReadError(reason_of(error)) from None
    if len(found) > most:
        raise CannotReadError(f"it has more than {most:,} bytes")
    return found


def unpacked(content: bytes, most: int = MOST_BYTES) -> bytes:
    """``content`` itself, or what it holds where it is gzip: at most ``most`` bytes, and no bomb."""
    if content[:2] != b"\x1f\x8b":
        return content
    limit = min(most, max(FREE, MOST_RATIO * len(content)))
    found = bytearray()
    try:
        with gzip.open(io.BytesIO(content)) as file:
            while piece := file.read(PIECE):
                found += piece
                if len(found) > limit:
                    raise CannotReadError(f"its {len(content):,} bytes of gzip unpack to more than {limit:,}")
    except (OSError, EOFError, zlib.error) as error:
        raise CannotReadError(f"its gzip is damaged ({error})") from None
    return bytes(found)


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The value in a JSON file; `CannotReadError` for anything else, however deep or long its numbers."""
    return json_of(read_bytes(path, most))


_LONG = re.compile(f"[0-9]{{{MOST_DIGITS + 1}}}")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise CannotReadError(f"a whole number of {len(text)} digits: at most {MOST_DIGITS} are read")
    return int(text)


@contextmanager
def _no_collection(size: int) -> Iterator[None]:
    """Inside, the collector does not walk the values of a long text again and again, which takes most of the time."""
    pause = size > PIECE and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


def json_of(content: bytes | str) -> Any:
    """The value of a JSON text; `CannotReadError` in one line where it is none."""
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        with _no_collection(len(text)):
            return json.loads(text, parse_int=_whole) if _LONG.search(text) else json.loads(text)
    except CannotReadError:
        raise
    except RecursionError:
        raise CannotReadError("its JSON is nested too deeply") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise CannotReadError(f"not readable as JSON ({' '.join(str(error).split())})") from None
