"""The requests of one run, as arrays: what a workload is to the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 2**31 - 1
"""Largest prompt or output length a request record can hold."""

MAX_CLASSES = 128


@dataclass(frozen=True)
class Requests:
    """Arrays of one length N, sorted by arrival; row i is request number i.

    ``arrival_s`` float64 seconds; ``prompt_tokens``, ``output_tokens``, ``predicted_tokens`` int32, all
    at least 1; ``slo_class`` int8.  ``output_tokens`` is the truth that no scheduler sees.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    predicted_tokens: NDArray[np.int32]
    slo_class: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.arrival_s)

    @classmethod
    def checked(cls, arrival_s, prompt_tokens, output_tokens, predicted_tokens=None, slo_class=None) -> Requests:
        """Build from anything array-like, or raise ``ValueError`` naming the first bad row.

        Without ``predicted_tokens`` the prediction is the truth; without ``slo_class`` all are class 0.
        """
        arrival = _owned(arrival_s, np.float64)
        n = len(arrival)
        if n == 0:
            raise ValueError("no requests: give at least one.")
        _first_bad(~np.isfinite(arrival) | (arrival < 0), "arrival_s", arrival, "a finite time of at least 0")
        _first_bad(np.r_[False, np.diff(arrival) < 0], "arrival_s", arrival, "arrivals in ascending order (sort them)")
        columns = []
        for name, values in (
            ("prompt_tokens", prompt_tokens),
            ("output_tokens", output_tokens),
            ("predicted_tokens", output_tokens if predicted_tokens is None else predicted_tokens),
        ):
            array = np.asarray(values)
            if array.shape != (n,):
                raise ValueError(f"{name} has shape {array.shape}: give {n} values, one per arrival.")
            _first_bad(~((array >= 1) & (array <= MAX_TOKENS)), name, array, f"a number from 1 to {MAX_TOKENS}")
            columns.append(_owned(array, np.int32))
        classes = np.zeros(n, np.int8) if slo_class is None else np.asarray(slo_class)
        if classes.shape != (n,):
            raise ValueError(f"slo_class has shape {classes.shape}: give {n} values, one per arrival.")
        _first_bad(~((classes >= 0) & (classes < MAX_CLASSES)), "slo_class", classes, "a class number from 0")
        prompt, output, predicted = columns
        return cls(arrival, prompt, output, predicted, _owned(classes, np.int8))


def _owned(values, dtype) -> NDArray:
    """As an array the kernels take: contiguous and writeable (a column of a data frame may be read-only: copied)."""
    return np.require(values, dtype, ["C", "W"])


def _first_bad(bad: NDArray[np.bool_], name: str, values: NDArray, wanted: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name}[{row}]={values[row]!s} is not allowed: give {wanted}.")
