"""Columns of tables that users give, as numbers."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.reading import CannotReadError
from llmsched_env.files.showing import shortened

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MOST_COLUMNS = 2_000
"""Most columns of a table: pandas takes a millisecond for each."""

MOST_HEADER = 2**20
"""Most bytes of a first line that are looked at."""


def pandas() -> Any:
    """The module: it is imported when the first table is read, which takes a fifth of a second that most runs save."""
    import pandas as found

    return found


def read_table(content: bytes, **how: Any) -> DataFrame:
    """The table of a CSV text, read by pandas with the options ``how``; `CannotReadError` in one line where it is none.

    A table of more than MOST_COLUMNS columns is refused, and one with two columns of the same name.
    """
    _check_header(content.lstrip()[:MOST_HEADER].splitlines()[:1])
    try:
        return pandas().read_csv(io.BytesIO(content), **how)
    except (pandas().errors.ParserError, pandas().errors.EmptyDataError, UnicodeDecodeError) as error:
        raise CannotReadError(str(error).strip().splitlines()[0]) from None


def _check_header(first: Sequence[bytes]) -> None:
    line = first[0].decode("utf-8-sig", errors="replace") if first else ""
    width = line.count(",") + 1
    if width > MOST_COLUMNS:
        raise CannotReadError(f"its first line has {width:,} columns: at most {MOST_COLUMNS:,} are read")
    with suppress(csv.Error):
        names = Counter(name.strip() for name in next(csv.reader([line]), []))
        twice = [name for name, count in names.items() if count > 1 and name]
        if twice:
            raise CannotReadError(f"several of its columns are named {shortened(twice[0])!r}: keep one of them")


def numbers_of(column: Series) -> NDArray[np.float64]:
    """The column (N,) as numbers; NaN where an entry is none: truth values, lists, more digits than a number has."""
    if column.dtype == bool or column.dtype == object:
        return np.array([_number(value) for value in column], dtype=np.float64)
    return pandas().to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
