"""Request traces: the published file formats, read into three arrays and checked."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmsched_env.files.showing import visible
from llmsched_env.requests import MAX_TOKENS

FORMATS = (
    "plain CSV (arrival_s, prompt_tokens, output_tokens), "
    "BurstGPT CSV (Timestamp, Request tokens, Response tokens, ...), "
    "Azure CSV (TIMESTAMP, ContextTokens, GeneratedTokens), "
    "Mooncake JSON lines (timestamp, input_length, output_length, ...)"
)

# Per CSV format: the columns of time, prompt and output after `_plain_name`; and whether times are dates.
_CSV = (
    ("arrivals", "prompttokens", "outputtokens", False),
    ("timestamp", "requesttokens", "responsetokens", False),
    ("timestamp", "contexttokens", "generatedtokens", True),
)
_JSON_KEYS = ("timestamp", "input_length", "output_length")
_JSON_LINE = re.compile(
    rb'^\{"timestamp":[ \t]*(\d{1,18}),[ \t]*"input_length":[ \t]*(\d{1,18}),[ \t]*"output_length":[ \t]*(\d{1,18})'
    rb"(?:,[^\r\n]*)?\}[ \t]*\r?$",
    re.MULTILINE,
)
"""A line as published; files that have others too are read by the JSON parser, five times slower."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A recorded workload: rows in order of arrival, the first at 0 s.

    ``arrival_s`` float64 seconds; ``prompt_tokens`` and ``output_tokens`` int32, at least 1; ``dropped``
    counts the rows left out because a length was 0 (failed requests); ``notes`` says what was changed.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    name: str = "trace"
    dropped: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def mean_gap_s(self) -> float:
        """Mean time between arrivals in seconds; 1 where all rows share one instant."""
        span = float(self.arrival_s[-1] - self.arrival_s[0])
        return span / (len(self) - 1) if span > 0 else 1.0


def read_trace(path: str | Path) -> Trace:
    """Read a trace in any of the published ``FORMATS``, plain or gzipped.

    The format is told by the content, not the name.  Arrivals are sorted and shifted to start at 0; rows
    with a length of 0 are dropped and counted.  Raises ``ValueError`` with one line that names the file
    and, for a bad value, the data row (counted from 1 after the header).
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        head = raw[:4096].decode("utf-8-sig", errors="strict" if len(raw) <= 4096 else "ignore")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"trace {path}: not readable ({error}).") from error
    try:
        if not head.strip() or "\0" in head:
            raise ValueError("the file is empty." if not head.strip() else f"not text. Formats known: {FORMATS}.")
        time_s, prompt, output = _read_jsonl(raw) if head.lstrip().startswith("{") else _read_csv(raw)
        return _finish(visible(path.name), time_s, prompt, output)
    except ValueError as error:
        raise ValueError(f"trace {path}: {error}") from error


def _finish(name: str, time_s: NDArray, prompt: NDArray, output: NDArray) -> Trace:
    if len(time_s) == 0:
        raise ValueError("there is a header but not one row.")
    kept = (prompt > 0) & (output > 0)
    dropped = int(len(kept) - kept.sum())
    notes = []
    if dropped:
        notes.append(f"{dropped} of {len(kept)} rows dropped: a prompt or output of 0 tokens (failed requests)")
        time_s, prompt, output = time_s[kept], prompt[kept], output[kept]
    if len(time_s) == 0:
        raise ValueError(f"nothing is left: all {dropped} rows have a prompt or output of 0 tokens.")
    if (np.diff(time_s) < 0).any():
        order = np.argsort(time_s, kind="stable")
        time_s, prompt, output = time_s[order], prompt[order], output[order]
        notes.append("rows were not in order of arrival: sorted")
    return Trace(
        np.ascontiguousarray(time_s - time_s[0], dtype=np.float64),
        np.ascontiguousarray(prompt, dtype=np.int32),
        np.ascontiguousarray(output, dtype=np.int32),
        name,
        dropped,
        tuple(notes),
    )


def _read_csv(raw: bytes) -> tuple[NDArray, NDArray, NDArray]:
    start = raw[:10_000].removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    columns, *rows = [row for row in csv.reader(start.splitlines()[:100], skipinitialspace=True) if row]
    columns = [c.strip() for c in columns]
    names = [_plain_name(c) for c in columns]
    for time, prompt, output, dated in _CSV:
        if {time, prompt, output} <= set(names):
            _refuse_long_rows(raw, len(columns), rows)
            frame = _frame(raw, [names.index(c) for c in (time, prompt, output)])
            labels = [columns[names.index(c)] for c in (time, prompt, output)]
            parse = _dates if dated else _seconds
            return (
                parse(labels[0], frame[0]),
                _tokens(labels[1], frame[1]),
                _tokens(labels[2], frame[2]),
            )
    raise ValueError(f"unknown columns {', '.join(c[:40] for c in columns[:12])}. Formats known: {FORMATS}.")


def _refuse_long_rows(raw: bytes, columns: int, first_rows: list[list[str]]) -> None:
    """Refuse a row with more fields than the header, of which pandas would silently take the wrong ones."""
    if first_rows and len(first_rows[0]) > columns:
        raise ValueError(f"row 1: {len(first_rows[0])} fields under {columns} columns.")
    if b'"' in raw:  # commas inside quotes: left to the parser
        return
    text = np.frombuffer(raw, np.uint8)
    line_ends = np.append(np.flatnonzero(text == ord("\n")), len(text))
    commas = np.diff(np.searchsorted(np.flatnonzero(text == ord(",")), line_ends), prepend=0)
    if (commas >= columns).any():
        line = int(np.argmax(commas >= columns))
        row = sum(1 for before in raw.split(b"\n")[:line] if before.strip())
        raise ValueError(f"row {row}: {commas[line] + 1} fields under {columns} columns.")


def _frame(raw: bytes, wanted: list[int]) -> list[pd.Series]:
    try:
        frame = pd.read_csv(io.BytesIO(raw), usecols=wanted, encoding="utf-8-sig", low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"not readable as CSV ({str(error).strip().splitlines()[0]}).") from error
    return [frame.iloc[:, sorted(wanted).index(place)] for place in wanted]


def _plain_name(column: str) -> str:
    """``Timestamp(s)`` and ``Request tokens`` as ``timestamp`` and ``requesttokens``."""
    return re.sub(r"\(.*?\)|[^a-z]", "", column.lower())


def _numbers(label: str, column: pd.Series, wanted: str) -> NDArray[np.float64]:
    plain = column
    if column.dtype == object:  # lists and objects, which a JSON line can hold, are no numbers
        plain = column.where(column.map(lambda value: isinstance(value, (int, float, str))))
    values = pd.to_numeric(plain, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse(~np.isfinite(values) | (values < 0), label, column, wanted)
    return values


def _seconds(label: str, column: pd.Series) -> NDArray[np.float64]:
    return _numbers(label, column, "a time in seconds of at least 0")


def _tokens(label: str, column: pd.Series) -> NDArray[np.float64]:
    wanted = f"a whole number of tokens from 0 to {MAX_TOKENS}"
    values = _numbers(label, column, wanted)
    _refuse((values > MAX_TOKENS) | (values != np.floor(values)), label, column, wanted)
    return values


def _dates(label: str, column: pd.Series) -> NDArray[np.float64]:
    parsed = pd.to_datetime(column.astype("str"), format="ISO8601", utc=True, errors="coerce")
    _refuse(parsed.isna().to_numpy(), label, column, "a date and time like 2023-11-16 18:15:46.6805900")
    ticks = parsed.dt.as_unit("ns").astype("int64").to_numpy()
    return cast(NDArray[np.float64], (ticks - ticks.min()) / 1e9)


def _refuse(bad: NDArray[np.bool_], label: str, column: pd.Series, wanted: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"row {row + 1}: {label}={column.iloc[row]!s} is not allowed: give {wanted}.")


def _read_jsonl(raw: bytes) -> tuple[NDArray, NDArray, NDArray]:
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    found = _JSON_LINE.findall(raw)
    if len(found) == raw.rstrip().count(b"\n") + 1:
        time_ms, prompt, output = (pd.Series(c) for c in np.array(found, dtype="S18").astype(np.float64).T)
    else:
        time_ms, prompt, output = _json_columns(raw)
    milliseconds = _numbers(_JSON_KEYS[0], time_ms, "a time in milliseconds of at least 0")
    return milliseconds / 1000.0, _tokens(_JSON_KEYS[1], prompt), _tokens(_JSON_KEYS[2], output)


def _json_columns(raw: bytes) -> tuple[pd.Series, ...]:
    rows: tuple[list, list, list] = ([], [], [])
    for number, line in enumerate(raw.splitlines(), start=1):
        if line and not line.isspace():
            for column, value in zip(rows, _json_row(line, number), strict=True):
                column.append(value)
    return tuple(pd.Series(column) for column in rows)


def _json_row(line: bytes, number: int) -> tuple[Any, Any, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"row {number}: not JSON ({error}).") from error
    if type(row) is not dict:
        raise ValueError(f"row {number}: not a JSON object but {type(row).__name__}.")
    try:
        return row["timestamp"], row["input_length"], row["output_length"]
    except KeyError as error:
        found = ", ".join(list(row)[:12])
        raise ValueError(f"row {number}: no field {error} among {found}. Formats known: {FORMATS}.") from error
