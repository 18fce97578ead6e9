"""Replaying a trace: its first tenth set aside, the rest rotated and tiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_env.workload.contents import Contents
from llmsched_env.workload.lengths import IntPair
from llmsched_env.workload.traces import Trace

CALIBRATION_SHARE = 10
"""One row in this many, at the front of a trace, is for bin edges: it may be simulated, never scored."""


def calibration_rows(trace: Trace) -> int:
    """How many rows at the front of ``trace`` are set aside (at least one is left to score)."""
    return min(max(1, len(trace) // CALIBRATION_SHARE), len(trace) - 1)


def replayed_gap_s(trace: Trace) -> float:
    """Mean time between the arrivals that are replayed, in seconds: the rate of a trace is one over it."""
    return trace.gap_from(calibration_rows(trace))


class Replay:
    """An endless stream of requests: ``warmup`` rows of the set-aside part, then the rest of the trace.

    The rest starts at a row drawn from ``rng`` and wraps round; every turn lasts the span of the rest plus
    one mean gap.  ``clock`` stretches all times.  ``classes``: the SLO class of every row.
    """

    def __init__(
        self,
        trace: Trace,
        clock: float,
        warmup: int,
        rng: np.random.Generator,
        classes: NDArray[np.int8] | None = None,
    ) -> None:
        first = calibration_rows(trace)
        self._lengths = (trace.prompt_tokens, trace.output_tokens)
        self._times = trace.arrival_s
        self._first, self._rest = first, len(trace) - first
        self._gap = replayed_gap_s(trace)
        self._turn = float(trace.arrival_s[-1] - trace.arrival_s[first]) + self._gap
        self._offset = int(rng.integers(self._rest))
        self._clock, self._warmup, self._done = clock, warmup, 0
        self._contents, self._classes = trace.contents, classes

    def take(self, n: int) -> tuple[NDArray[np.float64], IntPair, Contents | None, NDArray[np.int8] | None]:
        """Arrival times (seconds, float64, ascending), (prompt, output), hashes and SLO classes, if any, of n requests.

        In every turn the prompts are others, which only share beginnings as those of the first turn do.
        """
        number = np.arange(self._done, self._done + n)
        self._done += n
        turn, place = np.divmod(self._offset + number - self._warmup, self._rest)
        row = np.where(number < self._warmup, number, self._first + place)
        start = self._times[self._warmup - 1] + self._gap if self._warmup else 0.0
        scored = start + self._times[row] - self._times[self._first + self._offset] + turn * self._turn
        arrival = np.where(number < self._warmup, self._times[row], scored) * self._clock
        prompt, output = self._lengths
        contents = None
        if self._contents is not None:
            contents = self._contents.rows(row, np.where(number < self._warmup, 0, turn))
        return arrival, (prompt[row], output[row]), contents, None if self._classes is None else self._classes[row]
