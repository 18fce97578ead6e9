"""The raw rows: one line of CSV per sample, written as soon as it is measured, read back on a restart."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llmsched.eval.calibration.cells import DECODE, PREFILL, GridCell
from llmsched_env.files.reading import CannotReadError, read_bytes
from llmsched_env.files.writing import append_bytes, make_folder, write_bytes, write_text

MOST_BYTES = 2**30
"""Most bytes of a file of raw rows."""

OK, OOM = "ok", "oom"


@dataclass(frozen=True)
class Setup:
    """The system of all rows of a file; rows of another one are refused."""

    model: str
    device: str
    dtype: str
    engine: str
    clock: str


@dataclass(frozen=True)
class SampleRow:
    """One sample: ``ms`` of one prefill, or of one decode step (a mean over a burst); NaN when out of memory.

    ``attempt`` 0 is the campaign's own measurement, 1 the second one of a cell that was noisy.
    """

    cell: GridCell
    attempt: int
    repeat: int
    status: str
    ms: float


SETUP_FIELDS = tuple(field.name for field in fields(Setup))
COLUMNS = (*SETUP_FIELDS, "phase", "batch", "tokens", "attempt", "repeat", "status", "ms")


class RowFile:
    """A CSV of rows of one setup that is appended to, a row at a time."""

    def __init__(self, path: Path, setup: Setup) -> None:
        """Continue ``path``, or begin it; ``ValueError`` when it has another setup or another format."""
        self.path, self.setup = path, setup
        self.rows: list[SampleRow] = []
        if path.exists():
            content = _content(path)
            whole = content[: content.rfind(b"\n") + 1]  # a killed process may have left the last line unfinished
            self.rows = list(self._checked(_rows_of(path, whole)))
            if whole != content:
                write_bytes(path, whole)
            return
        make_folder(path.parent)
        write_text(path, ",".join(COLUMNS) + "\n")

    def append(self, row: SampleRow) -> None:
        """Add a row to the file, synced to disk, and to ``rows``."""
        line = io.StringIO()
        ms = "" if math.isnan(row.ms) else f"{row.ms:.6g}"
        cell = (row.cell.phase, row.cell.batch, row.cell.tokens)
        csv.writer(line, lineterminator="\n").writerow(
            [*asdict(self.setup).values(), *cell, row.attempt, row.repeat, row.status, ms]
        )
        append_bytes(self.path, line.getvalue().encode(), sync=True)
        self.rows.append(row)

    def _checked(self, found: Sequence[tuple[Setup, SampleRow]]) -> Iterator[SampleRow]:
        for number, (setup, row) in enumerate(found, start=2):
            for name in SETUP_FIELDS:
                there, here = getattr(setup, name), getattr(self.setup, name)
                if there != here:
                    raise ValueError(
                        f"rows {self.path}, line {number}: {name}={there!r}, but this run measures {here!r}. "
                        f"Give another --rows (or --out), or delete the file."
                    )
            yield row


def read_rows(path: Path) -> list[tuple[Setup, SampleRow]]:
    """All rows of a file; ``ValueError`` names a line that is not a row."""
    return _rows_of(path, _content(path))


def _rows_of(path: Path, content: bytes) -> list[tuple[Setup, SampleRow]]:
    found: list[tuple[Setup, SampleRow]] = []
    try:
        reader = csv.DictReader(content.decode("utf-8").splitlines())
        names = tuple(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"rows {path}: not readable as CSV ({error}).") from None
    if names != COLUMNS:
        raise ValueError(f"rows {path}: the header is not {','.join(COLUMNS)}: not raw rows of a calibration.")
    while True:
        try:
            record = next(reader, None)
            if record is None:
                return found
            found.append(_row(record))
        except (TypeError, ValueError, OverflowError, csv.Error) as error:
            raise ValueError(f"rows {path}, line {reader.line_num}: not a row of a calibration ({error}).") from None


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"rows {path}: not readable ({error}).") from None


def _row(record: dict[str, str]) -> tuple[Setup, SampleRow]:
    cell = GridCell(record["phase"], int(record["batch"]), int(record["tokens"]))
    status, ms = record["status"], float(record["ms"] or "nan")
    if cell.phase not in (PREFILL, DECODE) or status not in (OK, OOM):
        raise ValueError(f"phase {cell.phase!r}, status {status!r}")
    if cell.batch < 1 or cell.tokens < 1 or (status == OK and not 0 < ms < math.inf):
        raise ValueError(f"batch {cell.batch}, tokens {cell.tokens}, ms {record['ms']!r}")
    row = SampleRow(cell, int(record["attempt"]), int(record["repeat"]), status, ms)
    return Setup(**{name: record[name] for name in SETUP_FIELDS}), row
