"""Runs that a real engine served, as its client saw them: read from a folder of CSV files and checked.

Every file whose header has columns of requests is read; other files (engine counters, summaries) are ignored.
docs/results/engine_log.md lists the columns.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmsched_env.files.columns import numbers_of, read_table
from llmsched_env.files.reading import CannotReadError
from llmsched_env.files.showing import shortened
from llmsched_env.requests import MAX_TOKENS, Requests
from llmsched_env.workload.trace_text import read_text

Floats = NDArray[np.float64]

COLUMNS: Mapping[str, Sequence[str]] = {
    "arrival_s": ("arrival_s",),
    "prompt_tokens": ("prompt_tokens_est", "prompt_tokens"),
    "output_tokens": ("output_tokens_loso", "output_tokens"),
    "ttft_s": ("ttft_s",),
    "e2e_s": ("e2e_s",),
}
"""The data of a run, and the columns that may hold them; the first one present counts."""

MARKS = ("ttft_s", "e2e_s")
"""A file with one of these columns, or with most of the others, holds requests."""

LABEL = "scale"
"""Column with the label of the run; a file without it is one run, named after the file."""


@dataclass(frozen=True)
class LoggedRun:
    """A run: its label; its N requests; ``ttft_s`` and ``e2e_s`` (N,), seconds to the first token and to the end.

    All times are those of the client.  ``scored``: the first so many requests count in a fit (None: all); the others
    load the server and are held out.
    """

    label: str
    requests: Requests
    ttft_s: Floats
    e2e_s: Floats
    scored: int | None = None

    @property
    def first_s(self) -> Floats:
        """Time of the first token of each request, on the clock of the arrivals."""
        return self.requests.arrival_s + self.ttft_s

    @property
    def done_s(self) -> Floats:
        """Time of the end of each request, on the clock of the arrivals."""
        return self.requests.arrival_s + self.e2e_s


def read_runs(option: str, folder: Path) -> list[LoggedRun]:
    """The runs in ``folder`` (or in one file), by label; ``ValueError`` names ``option`` and what is wrong."""
    if not folder.exists():
        raise ValueError(f"{option} {str(folder)!r}: there is no such folder.")
    files = sorted(folder.glob("*.csv")) if folder.is_dir() else [folder]
    if not files:
        raise ValueError(f"{option} {str(folder)!r} holds no CSV file: {_wanted()}.")
    runs: dict[str, LoggedRun] = {}
    headers = []
    for file in files:
        header = _header(file)
        headers.append(f"{file.name}: {', '.join(header[:12]) or 'nothing'}")
        if len(files) > 1 and not _about_requests(header):
            continue
        for run in _runs_of(file, header):
            if run.label in runs:
                raise ValueError(f"{file}: the run {run.label} is in another file of the folder too: keep one.")
            runs[run.label] = run
    if not runs:
        found = "; ".join(headers)
        raise ValueError(f"{option} {str(folder)!r} holds no file of requests: {_wanted()}. Found {found}.")
    return sorted(runs.values(), key=lambda run: _order(run.label))


def _wanted() -> str:
    return "wanted is one with the columns " + ", ".join(" or ".join(names) for names in COLUMNS.values())


def _order(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label


def _header(file: Path) -> list[str]:
    try:
        text = read_text(file).decode("utf-8", errors="replace")
        return [shortened(name.strip()) for name in next(csv.reader(text.split("\n", 1)[:1]), [])]
    except (CannotReadError, csv.Error) as error:
        raise ValueError(f"{file}: not readable as CSV ({error}).") from error


def _present(header: Sequence[str]) -> dict[str, str]:
    """The column of the file for every entry of COLUMNS that is present."""
    found = {}
    for name, allowed in COLUMNS.items():
        here = [column for column in allowed if column in header]
        if here:
            found[name] = here[0]
    return found


def _about_requests(header: Sequence[str]) -> bool:
    return any(name in header for name in MARKS) or len(_present(header)) > len(MARKS)


def _runs_of(file: Path, header: Sequence[str]) -> list[LoggedRun]:
    columns = _present(header)
    missing = [" or ".join(allowed) for name, allowed in COLUMNS.items() if name not in columns]
    if missing:
        raise ValueError(f"{file}: no column {', '.join(missing)}; it has {', '.join(header[:20])}.")
    try:
        frame = read_table(read_text(file), skipinitialspace=True, low_memory=False)
    except (CannotReadError, OSError) as error:
        raise ValueError(f"{file}: not readable as CSV ({error}).") from error
    frame.columns = frame.columns.str.strip()
    if frame.empty:
        raise ValueError(f"{file} has a header and no row: give at least one request.")
    values = {name: _numbers(file, column, frame[column]) for name, column in columns.items()}
    _check(file, columns, values)
    labels = [_label(value) for value in frame[LABEL]] if LABEL in frame else [file.stem] * len(frame)
    rows = pd.Series(range(len(frame))).groupby(labels).indices
    return [
        _run(str(label), {name: column[places] for name, column in values.items()}) for label, places in rows.items()
    ]


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)


def _numbers(file: Path, column: str, values: pd.Series) -> Floats:
    found = numbers_of(values)
    _refuse(~np.isfinite(found), file, column, values.to_numpy(), "a finite number")
    return found


def _check(file: Path, columns: Mapping[str, str], values: Mapping[str, Floats]) -> None:
    """Refuse impossible times and lengths."""
    _refuse(values["arrival_s"] < 0, file, columns["arrival_s"], values["arrival_s"], "seconds of at least 0")
    for name in ("prompt_tokens", "output_tokens"):
        wrong = (values[name] < 1) | (values[name] > MAX_TOKENS) | (values[name] != np.floor(values[name]))
        _refuse(wrong, file, columns[name], values[name], "a whole number of tokens from 1")
    _refuse(values["ttft_s"] <= 0, file, columns["ttft_s"], values["ttft_s"], "seconds above 0")
    early = values["e2e_s"] < values["ttft_s"]
    _refuse(early, file, columns["e2e_s"], values["e2e_s"], "at least the time to the first token")


def _refuse(wrong: NDArray[np.bool_], file: Path, column: str, values: NDArray, wanted: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{file}, row {row + 1}: {column}={shortened(str(values[row]))} is not allowed: give {wanted}."
        )


def _run(label: str, values: Mapping[str, Floats]) -> LoggedRun:
    order = np.argsort(values["arrival_s"], kind="stable")
    sent, prompt, output, ttft, e2e = (np.array(values[name][order]) for name in COLUMNS)
    return LoggedRun(label, Requests.checked(sent - sent[0], prompt, output), ttft, e2e)
