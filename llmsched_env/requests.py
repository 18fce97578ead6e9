"""The requests of one run, as arrays: what a workload is to the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.showing import shortened

MAX_TOKENS = 2**31 - 1
"""Largest prompt or output length a request record can hold."""

MAX_CLASSES = 128


@dataclass(frozen=True)
class Requests:
    """Arrays of one length N, sorted by arrival; row i is request number i.

    ``arrival_s`` float64 seconds; ``prompt_tokens``, ``output_tokens``, ``predicted_tokens`` int32, all
    at least 1; ``slo_class`` int8.  ``output_tokens`` is the truth that no scheduler sees.
    Anything array-like is taken, and copied where it has another dtype; ``ValueError`` names the first bad row.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    predicted_tokens: NDArray[np.int32]
    slo_class: NDArray[np.int8]

    def __post_init__(self) -> None:
        arrival = _owned("arrival_s", self.arrival_s, np.float64)
        if arrival.ndim != 1:
            raise ValueError(f"arrival_s has shape {arrival.shape}: give one row of times.")
        if len(arrival) and not (arrival[0] >= 0 and np.isfinite(arrival[-1]) and _ascending(arrival)):
            _first_bad(~np.isfinite(arrival) | (arrival < 0), "arrival_s", arrival, "a finite time of at least 0")
            later = np.r_[False, np.diff(arrival) < 0]
            _first_bad(later, "arrival_s", arrival, "arrivals in ascending order (sort them)")
        object.__setattr__(self, "arrival_s", arrival)
        for name in ("prompt_tokens", "output_tokens", "predicted_tokens"):
            wanted = f"a whole number from 1 to {MAX_TOKENS}"
            object.__setattr__(self, name, _column(name, getattr(self, name), len(arrival), 1, MAX_TOKENS, wanted))
        wanted = f"a class number from 0 to {MAX_CLASSES - 1}"
        classes = _column("slo_class", self.slo_class, len(arrival), 0, MAX_CLASSES - 1, wanted, np.int8)
        object.__setattr__(self, "slo_class", classes)

    def __len__(self) -> int:
        return len(self.arrival_s)

    @classmethod
    def checked(cls, arrival_s, prompt_tokens, output_tokens, predicted_tokens=None, slo_class=None) -> Requests:
        """Build from at least one row.

        Without ``predicted_tokens`` the prediction is the truth; without ``slo_class`` all are class 0.
        """
        if len(np.atleast_1d(arrival_s)) == 0:
            raise ValueError("no requests: give at least one.")
        predicted = output_tokens if predicted_tokens is None else predicted_tokens
        classes = np.zeros(len(np.atleast_1d(arrival_s)), np.int8) if slo_class is None else slo_class
        return cls(arrival_s, prompt_tokens, output_tokens, predicted, classes)


def _ascending(values: NDArray[np.float64]) -> bool:
    """Whether no value is below the one before it; False where one is NaN."""
    return bool((values[1:] >= values[:-1]).all())


def _column(name: str, values: Any, n: int, low: int, high: int, wanted: str, dtype: Any = np.int32) -> NDArray:
    """``values`` (n,) as whole numbers from ``low`` to ``high``; ``ValueError`` for anything else, truth values too."""
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}: give {n} values, one per arrival.")
    if array.dtype.kind not in "iu":
        _first_bad(_not_whole(array), name, array, wanted)
    if n and not (array.min() >= low and array.max() <= high):
        _first_bad(~((array >= low) & (array <= high)), name, array, wanted)
    return _owned(name, array, dtype)


def _not_whole(array: NDArray) -> NDArray[np.bool_]:
    if array.dtype.kind == "f":
        return ~(np.isfinite(array) & (array == np.floor(array)))
    whole = [isinstance(value, int | np.integer) and not isinstance(value, bool) for value in array.tolist()]
    return ~np.array(whole, dtype=bool)


def _owned(name: str, values: Any, dtype: Any) -> NDArray:
    """As an array the kernels take: contiguous and writeable (a column of a data frame may be read-only: copied)."""
    try:
        found = np.asarray(values)
        if found.dtype.kind in "bOSUc":
            found = np.array([_number(value) for value in found.ravel().tolist()], np.float64).reshape(found.shape)
        return np.require(found, dtype, ["C", "W"])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is not a row of numbers: give one.") from None


def _number(value: Any) -> Any:
    if isinstance(value, bool | str | bytes | complex):
        raise TypeError(value)
    return value


def _first_bad(bad: NDArray[np.bool_], name: str, values: NDArray, wanted: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name}[{row}]={shortened(str(values[row]))} is not allowed: give {wanted}.")
