"""Request traces: the published file formats, read into three arrays and checked."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.columns import numbers_of, pandas
from llmsched_env.files.reading import CannotReadError, json_of
from llmsched_env.files.showing import shortened, visible
from llmsched_env.requests import MAX_TOKENS
from llmsched_env.workload.contents import BAILIAN_TOKENS, MOONCAKE_TOKENS, Contents, contents_of, lists_in
from llmsched_env.workload.sessions.agents import columns_of, is_session, read_folder, session_of
from llmsched_env.workload.sessions.links import Links, chat_links, named_links
from llmsched_env.workload.trace_columns import LARGEST_S, Header, TraceClasses, classes_of, header_of
from llmsched_env.workload.trace_text import read_text

if TYPE_CHECKING:
    from pandas import Series

Columns = tuple[Any, ...]
"""Arrival times (s), prompt and output tokens of N rows, and their hashes, SLO classes and links, if any."""

FORMATS = (
    "plain CSV (arrival_s, prompt_tokens, output_tokens), "
    "BurstGPT CSV (Timestamp, Request tokens, Response tokens, ...), "
    "Azure CSV (TIMESTAMP, ContextTokens, GeneratedTokens), "
    "Vidur CSV (arrived_at, num_prefill_tokens, num_decode_tokens), "
    "Mooncake JSON lines (timestamp in ms, input_length, output_length, ...), "
    "Bailian JSON lines (the same with chat_id, parent_chat_id, in s), "
    "vLLM bench serve --save-detailed JSON (start_times, input_lens, output_lens), "
    "sessions of agents as JSON, or a folder of them (block_size, requests with t, in, out)"
)

# Per CSV format: the plain names of time, prompt and output; seconds in the unit of its times (None: the header says
# it); and whether times are dates.
_CSV: tuple[tuple[str, str, str, float | None, bool], ...] = (
    ("arrival", "prompttokens", "outputtokens", None, False),
    ("timestamp", "requesttokens", "responsetokens", 1.0, False),
    ("timestamp", "contexttokens", "generatedtokens", 1.0, True),
    ("arrivedat", "numprefilltokens", "numdecodetokens", 1.0, False),
)
_CLASSES = "sloclass"
"""The column of the SLO class, by name or number, in any format."""

_SESSIONS = ("sessionid", "elapsedtime")
"""The columns of the session and of the time to its answer (BurstGPT, in s), in any format of a CSV."""

_MOST_HEADER = 2**20
"""Most bytes of the line of column names."""

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
    ``contents``: hashes of the prompts, ``classes``: SLO classes, ``links``: sessions, where the trace has them.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    name: str = "trace"
    dropped: int = 0
    notes: tuple[str, ...] = ()
    contents: Contents | None = None
    classes: TraceClasses | None = None
    links: Links | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def mean_gap_s(self) -> float:
        """Mean time between arrivals in seconds; 1 where all rows share one instant."""
        span = float(self.arrival_s[-1] - self.arrival_s[0])
        return span / (len(self) - 1) if span > 0 else 1.0

    def gap_from(self, first: int) -> float:
        """Mean time between arrivals from row ``first`` on, in seconds; 1 where these rows share one instant."""
        span = float(self.arrival_s[-1] - self.arrival_s[first])
        return span / (len(self) - 1 - first) if span > 0 else 1.0


def read_trace(path: str | Path) -> Trace:
    """Read a trace in any of the published ``FORMATS``, plain or gzipped, or a folder of sessions.

    The format is told by the content, not the name.  Arrivals are sorted and shifted to start at 0; rows
    with a length of 0 are dropped and counted.  Raises ``ValueError`` with one line that names the file
    and, for a bad value, the data row (counted from 1 after the header).
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _finish(visible(path.resolve().name), *read_folder(path))
        raw = read_text(path)
        start = raw[:4096].lstrip()[:1]
        return _finish(visible(path.name), *(_read_json(raw) if start in (b"{", b"[") else _read_csv(raw)))
    except CannotReadError as error:
        raise ValueError(f"trace {path}: not readable: {error}.") from None
    except ValueError as error:
        raise ValueError(f"trace {path}: {error}") from error


def _finish(
    name: str,
    time_s: NDArray,
    prompt: NDArray,
    output: NDArray,
    contents: Contents | None,
    classes: TraceClasses | None,
    links: Links | None = None,
) -> Trace:
    if len(time_s) == 0:
        raise ValueError("there is a header but not one row.")
    kept = (prompt > 0) & (output > 0)
    dropped = int(len(kept) - kept.sum())
    notes = []
    if dropped:
        notes.append(f"{dropped} of {len(kept)} rows dropped: a prompt or output of 0 tokens (failed requests)")
        time_s, prompt, output = time_s[kept], prompt[kept], output[kept]
        contents = contents and contents.rows(np.flatnonzero(kept))
        classes = classes and classes.rows(kept)
        links = links and links.rows(np.flatnonzero(kept))
    if len(time_s) == 0:
        raise ValueError(f"nothing is left: all {dropped} rows have a prompt or output of 0 tokens.")
    if (np.diff(time_s) < 0).any():
        order = np.argsort(time_s, kind="stable")
        time_s, prompt, output = time_s[order], prompt[order], output[order]
        contents = contents and contents.rows(order)
        classes = classes and classes.rows(order)
        links = links and links.rows(order)
        if links is None or links.clocked:
            notes.append("rows were not in order of arrival: sorted")
    return Trace(
        np.ascontiguousarray(time_s - time_s[0], dtype=np.float64),
        np.ascontiguousarray(prompt, dtype=np.int32),
        np.ascontiguousarray(output, dtype=np.int32),
        name,
        dropped,
        tuple(notes),
        contents,
        classes,
        links,
    )


def _read_csv(raw: bytes) -> Columns:
    start = raw[: max(10_000, raw[:_MOST_HEADER].find(b"\n") + 1)].decode("utf-8", errors="replace")
    try:
        columns, *rows = [row for row in csv.reader(start.split("\n")[:100], skipinitialspace=True) if row]
    except csv.Error as error:
        raise ValueError(f"not readable as CSV ({error}).") from None
    headers = [header_of(column) for column in columns]
    names = [header.name for header in headers]
    for time, prompt, output, known, dated in _CSV:
        if {time, prompt, output} <= set(names):
            try:
                _refuse_long_rows(raw, len(columns), rows)
            except csv.Error as error:
                raise ValueError(f"not readable as CSV ({error}).") from None
            used = [headers[names.index(name)] for name in (time, prompt, output)]
            more = [_CLASSES] * (_CLASSES in names) + list(_SESSIONS) * (set(_SESSIONS) <= set(names))
            _refuse_twice(headers, (time, prompt, output, *more))
            frame = _frame(raw, [names.index(name) for name in (time, prompt, output, *more)])
            found = dict(zip(more, frame[3:], strict=True))
            arrival = _dates(used[0].label, frame[0]) if dated else _seconds(used[0], known, frame[0])
            lengths = _tokens(used[1].label, frame[1]), _tokens(used[2].label, frame[2])
            classes = classes_of(found[_CLASSES].tolist(), "slo_class") if _CLASSES in found else None
            links = None
            if _SESSIONS[0] in found:
                took = numbers_of(found[_SESSIONS[1]]) * headers[names.index(_SESSIONS[1])].seconds(1.0)[0]
                links = named_links(found[_SESSIONS[0]].tolist(), arrival, took)
            return arrival, *lengths, None, classes, links
    shown = ", ".join(visible(column.strip()[:40]) for column in columns[:12])
    raise ValueError(f"unknown columns {shown}. Formats known: {FORMATS}.")


def _refuse_twice(headers: Sequence[Header], wanted: Sequence[str]) -> None:
    """Refuse two columns of one meaning: nobody knows which of them counts."""
    for name in wanted:
        same = [header.label for header in headers if header.name == name]
        if len(same) > 1:
            raise ValueError(f"{len(same)} columns {', '.join(same[:4])} mean the same: keep one of them.")


def _refuse_long_rows(raw: bytes, columns: int, first_rows: list[list[str]]) -> None:
    """Refuse a row with more fields than the header, of which pandas would silently take the wrong ones."""
    if first_rows and len(first_rows[0]) > columns:
        raise ValueError(f"row 1: {len(first_rows[0])} fields under {columns} columns.")
    if b'"' in raw:  # commas inside quotes are none
        lines = io.StringIO(raw.decode("utf-8-sig", errors="replace"), newline="")
        for place, row in enumerate(filter(None, csv.reader(lines, skipinitialspace=True))):
            if len(row) > columns:
                raise ValueError(f"row {place}: {len(row)} fields under {columns} columns.")
        return
    text = np.frombuffer(raw, np.uint8)
    line_ends = np.append(np.flatnonzero(text == ord("\n")), len(text))
    commas = np.diff(np.searchsorted(np.flatnonzero(text == ord(",")), line_ends), prepend=0)
    if (commas >= columns).any():
        line = int(np.argmax(commas >= columns))
        number = sum(1 for before in raw.split(b"\n")[:line] if before.strip())
        raise ValueError(f"row {number}: {commas[line] + 1} fields under {columns} columns.")


def _frame(raw: bytes, wanted: list[int]) -> list[Series]:
    try:
        frame = pandas().read_csv(io.BytesIO(raw), usecols=wanted, encoding="utf-8-sig", low_memory=False)
    except (pandas().errors.ParserError, pandas().errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"not readable as CSV ({str(error).strip().splitlines()[0]}).") from error
    return [frame.iloc[:, sorted(wanted).index(place)] for place in wanted]


def _numbers(label: str, column: Series, wanted: str) -> NDArray[np.float64]:
    values = numbers_of(column)
    _refuse(~np.isfinite(values) | (values < 0), label, column, wanted)
    return values


def _seconds(header: Header, known: float | None, column: Series) -> NDArray[np.float64]:
    factor, stated = header.seconds(known)
    values = _numbers(header.label, column, "a time of at least 0") * factor
    _refuse_large(values, header.label, stated)
    return values


def _refuse_large(seconds: NDArray[np.float64], label: str, stated: bool) -> None:
    """Refuse times in seconds that are none, unless the unit was stated."""
    if not stated and len(seconds) and seconds.max() > LARGEST_S:
        raise ValueError(
            f"{label}={seconds.max():g}: in seconds that is {seconds.max() / 3.156e7:,.0f} years; milliseconds since "
            f"1970? Say it in the name: {label}_ms, or {label}_s."
        )


def _tokens(label: str, column: Series) -> NDArray[np.float64]:
    wanted = f"a whole number of tokens from 0 to {MAX_TOKENS}"
    values = _numbers(label, column, wanted)
    _refuse((values > MAX_TOKENS) | (values != np.floor(values)), label, column, wanted)
    return values


def _dates(label: str, column: Series) -> NDArray[np.float64]:
    parsed = pandas().to_datetime(column.astype("str"), format="ISO8601", utc=True, errors="coerce")
    _refuse(parsed.isna().to_numpy(), label, column, "a date and time like 2023-11-16 18:15:46.6805900")
    ticks = parsed.dt.as_unit("ns").astype("int64").to_numpy()
    return cast(NDArray[np.float64], (ticks - ticks.min()) / 1e9)


def _refuse(bad: NDArray[np.bool_], label: str, column: Series, wanted: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"row {row + 1}: {label}={shortened(str(column.iloc[row]))} is not allowed: give {wanted}.")


def _read_json(raw: bytes) -> Columns:
    """JSON lines, one JSON array of such objects, or the file of a benchmark."""
    if raw.lstrip()[:1] == b"[":
        rows = json_of(raw)
        return _of_rows([_json_row(row, number) for number, row in enumerate(rows, start=1)])
    if is_session(raw):
        return columns_of([session_of(json_of(raw))])
    plain = b'"chat_id"' not in raw and b'"slo_class"' not in raw
    found = _JSON_LINE.findall(raw) if plain else []
    if found and len(found) == raw.rstrip().count(b"\n") + 1:
        time_ms, prompt, output = (pandas().Series(c) for c in np.array(found, dtype="S18").astype(np.float64).T)
        milliseconds = _numbers(_JSON_KEYS[0], time_ms, "a time in milliseconds of at least 0")
        lengths = _tokens(_JSON_KEYS[1], prompt), _tokens(_JSON_KEYS[2], output)
        lists = lists_in(raw, len(found)) if b'"hash_ids"' in raw else []
        if lists is not None:
            contents = contents_of(lists, lengths[0], MOONCAKE_TOKENS) if lists else None
            return milliseconds / 1000.0, *lengths, contents, None
    first, _, rest = raw.lstrip().partition(b"\n")
    if b'"input_lens"' in raw and (not rest.strip() or not first.rstrip().endswith(b"}")):
        return _of_benchmark(json_of(raw))
    lines = [(number, line) for number, line in enumerate(raw.split(b"\n"), start=1) if line.strip()]
    return _of_rows([_json_row(_json_line(line, number), number) for number, line in lines])


def _of_benchmark(document: Any) -> Columns:
    keys = ("start_times", "input_lens", "output_lens")
    lists = [document.get(key) if isinstance(document, dict) else None for key in keys]
    missing = [key for key, values in zip(keys, lists, strict=True) if not isinstance(values, list)]
    if missing:
        raise ValueError(f"a benchmark without {', '.join(missing)}: save it with --save-detailed.")
    if len({len(values) for values in lists if values is not None}) != 1:
        raise ValueError(f"{', '.join(keys)} differ in length: the file is not whole.")
    time, prompt, output = (pandas().Series(values, dtype=object) for values in lists)
    lengths = _tokens(keys[1], prompt), _tokens(keys[2], output)
    return _seconds(header_of("start_times_s"), None, time), *lengths, None, None


def _of_rows(rows: list[tuple[Any, ...]]) -> Columns:
    """Columns of JSON rows: (key of the time, whether it is of a conversation, time, prompt, output, ids or None, class
    or None, ids of the request and of the one before it)."""
    if len({row[:2] for row in rows}) > 1:
        raise ValueError(
            "some rows have a chat_id, or another key for the time, and some have not: their units differ."
        )
    time, prompt, output = (pandas().Series([row[place] for row in rows], dtype=object) for place in (2, 3, 4))
    if not rows:
        return np.zeros(0), np.zeros(0), np.zeros(0), None, None
    header, in_chats = header_of(rows[0][0]), rows[0][1]
    seconds = _seconds(header, 1.0 if in_chats else 1e-3, time)
    if not header.unit and not in_chats:
        fractions = _numbers(header.label, time, "a time") % 1 != 0
        if fractions.any():
            row = int(np.argmax(fractions))
            raise ValueError(
                f"row {row + 1}: timestamp={time.iloc[row]}: whole milliseconds are expected here, and seconds have "
                f"fractions: name the key timestamp_s or timestamp_ms."
            )
    lengths = _tokens(_JSON_KEYS[1], prompt), _tokens(_JSON_KEYS[2], output)
    block = BAILIAN_TOKENS if in_chats else MOONCAKE_TOKENS
    given = [row[6] for row in rows]
    classes = None if all(value is None for value in given) else classes_of(given, "slo_class")
    links = chat_links([row[7] for row in rows], [row[8] for row in rows], seconds) if in_chats else None
    return seconds, *lengths, contents_of([row[5] for row in rows], lengths[0], block), classes, links


def _json_line(line: bytes, number: int) -> Any:
    try:
        return json_of(line)
    except CannotReadError as error:
        raise ValueError(f"row {number}: {error}.") from None


def _json_row(row: Any, number: int) -> tuple[Any, ...]:
    if type(row) is not dict:
        raise ValueError(f"row {number}: not a JSON object but {type(row).__name__}.")
    stated = [key for key in row if key.startswith("timestamp_") and header_of(key).unit]
    key = stated[0] if stated else "timestamp"
    try:
        in_chats, ids = {"chat_id", "parent_chat_id"} <= row.keys(), row.get("hash_ids")
        known = key, in_chats, row[key], row["input_length"], row["output_length"], ids, row.get("slo_class")
        return *known, row.get("chat_id"), row.get("parent_chat_id")
    except KeyError as error:
        found = ", ".join(visible(name[:40]) for name in list(row)[:12])
        raise ValueError(f"row {number}: no field {error} among {found}. Formats known: {FORMATS}.") from error
