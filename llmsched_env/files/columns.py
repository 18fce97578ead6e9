"""Columns of tables that users give, as numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def numbers_of(column: pd.Series) -> NDArray[np.float64]:
    """The column (N,) as numbers; NaN where an entry is none: truth values, lists, more digits than a number has."""
    if column.dtype == bool or column.dtype == object:
        return np.array([_number(value) for value in column], dtype=np.float64)
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
