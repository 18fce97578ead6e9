"""A trace file as text: unpacked in bounded work, whatever its encoding and line ends are, or refused by its kind."""

from __future__ import annotations

import re
from pathlib import Path

from llmsched_env.files.reading import CannotReadError, read_bytes, unpacked

_MARKS = (  # longest first
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
_KINDS = (
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"PAR1", "Parquet: write it as CSV first (pandas.read_parquet(...).to_csv(...))"),
    (b"BZh", "bzip2: unpack it first, or pack it with gzip"),
    (b"\xfd7zXZ\x00", "xz: unpack it first, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard: unpack it first, or pack it with gzip"),
    (b"SQLite format 3", "a database: export it as CSV first"),
    (b"\x93NUMPY", "an array of NumPy: write it as CSV first"),
    (b"\x80\x04", "a pickle, which is never read: write it as CSV first"),
    (b"\x80\x05", "a pickle, which is never read: write it as CSV first"),
)


def read_text(path: Path) -> bytes:
    """The content of a trace file as UTF-8 without a mark, lines ended by a newline; `CannotReadError` in words."""
    raw = read_bytes(path)
    _refuse_kind(raw)
    raw = unpacked(raw)
    _refuse_kind(raw)
    raw = _as_utf8(raw)
    if not raw.strip():
        raise CannotReadError("the file is empty")
    if b"\0" in raw:
        raise CannotReadError("it is not text")
    return re.sub(rb"\r\n?", b"\n", raw) if b"\r" in raw else raw


def _refuse_kind(raw: bytes) -> None:
    for mark, words in _KINDS:
        if raw.startswith(mark):
            raise CannotReadError(f"it is {words}")


def _as_utf8(raw: bytes) -> bytes:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            try:
                return raw.decode(encoding).encode() if encoding != "utf-8-sig" else raw.removeprefix(mark)
            except UnicodeDecodeError as error:
                raise CannotReadError(f"it is marked as {encoding.upper()} and is not ({error.reason})") from None
    if b"\0" in raw[:4096]:
        raise CannotReadError("it is not text, or UTF-16 without a mark: write it as UTF-8")
    try:
        raw[:4096].decode("utf-8", errors="strict" if len(raw) <= 4096 else "ignore")
    except UnicodeDecodeError as error:
        raise CannotReadError(f"it is not UTF-8 (byte {raw[error.start]:#04x}): write it as UTF-8") from None
    return raw
