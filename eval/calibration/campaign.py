"""The campaign: rounds over all cells in random order until every cell has its repeats or the time is up.

The measurer of a model on a device is passed in.  Every sample is written to the row file at once, so that Ctrl-C, a
kill or the end of the budget lose nothing, and a restart repeats nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from llmsched.eval.calibration.cells import GridCell, shuffle_cells
from llmsched.eval.calibration.rows import OK, OOM, RowFile, SampleRow


class DoesNotFitError(Exception):
    """A cell does not fit into the device's memory."""


class Measurer(Protocol):
    """An object that takes samples on a device."""

    def sample(self, cell: GridCell) -> float:
        """Milliseconds of one prefill, or of one decode step; raises ``DoesNotFitError``."""


@dataclass(frozen=True)
class MeasurementPlan:
    """The cells to measure, the samples of each, and the most seconds for all."""

    cells: Sequence[GridCell]
    repeats: int = 7
    budget_s: float = math.inf
    most_cv: float = 0.1  # a cell with a larger standard deviation / mean is noisy: it is measured again, then flagged
    seed: int = 0


@dataclass(frozen=True)
class Measurement:
    """The samples of a cell that count, and whether it is noisy or does not fit the memory."""

    cell: GridCell
    samples: tuple[float, ...]
    out_of_memory: bool
    again: bool  # whether it was noisy and these samples are the second measurement
    most_cv: float

    @property
    def ms(self) -> float:
        """Median; NaN without samples."""
        return float(np.median(self.samples)) if self.samples else math.nan

    @property
    def cv(self) -> float:
        """Standard deviation over mean; NaN with fewer than two samples."""
        if len(self.samples) < 2:
            return math.nan
        return float(np.std(self.samples, ddof=1) / np.mean(self.samples))

    @property
    def noisy(self) -> bool:
        """Whether the samples disagree by more than the limit."""
        return self.cv > self.most_cv


def measurements(plan: MeasurementPlan, rows: Sequence[SampleRow]) -> list[Measurement]:
    """Every cell of the plan with the samples that count: those of the last attempt that is complete."""
    samples: dict[tuple[GridCell, int], list[float]] = {}
    failed = set()
    for row in rows:
        if row.status == OOM:
            failed.add(row.cell)
        else:
            samples.setdefault((row.cell, row.attempt), []).append(row.ms)
    found = []
    for cell in plan.cells:
        again = len(samples.get((cell, 1), [])) >= plan.repeats  # a second measurement counts once it is whole
        own = samples.get((cell, int(again)), [])
        found.append(Measurement(cell, tuple(own), cell in failed, again, plan.most_cv))
    return found


def run(plan: MeasurementPlan, file: RowFile, measurer: Measurer, step: Callable[[str], None] = lambda _: None) -> bool:
    """Measure what is missing in ``file``; return whether everything was measured before the budget ended.

    ``step`` is called after every sample with the cell's name.  ``KeyboardInterrupt`` passes through.
    """
    ends = time.monotonic() + plan.budget_s
    for attempt in (0, 1):
        for cell, repeat in missing(plan, file.rows, attempt):
            if time.monotonic() >= ends:
                return False
            if any(row.cell == cell and row.status == OOM for row in file.rows):
                continue
            try:
                file.append(SampleRow(cell, attempt, repeat, OK, measurer.sample(cell)))
            except DoesNotFitError:
                file.append(SampleRow(cell, attempt, repeat, OOM, math.nan))
            step(str(cell))
    return True


def missing(plan: MeasurementPlan, rows: Sequence[SampleRow], attempt: int) -> Iterator[tuple[GridCell, int]]:
    """(cell, repeat) that an attempt lacks, round by round; attempt 1 has only the noisy cells."""
    failed = {row.cell for row in rows if row.status == OOM}
    had = {(row.cell, row.repeat) for row in rows if row.attempt == attempt}
    if attempt:
        wanted = {m.cell for m in measurements(plan, [row for row in rows if row.attempt == 0]) if m.noisy}
    else:
        wanted = set(plan.cells)
    for repeat in range(plan.repeats):
        for cell in shuffle_cells(plan.cells, plan.seed, attempt, repeat):
            if cell in wanted - failed and (cell, repeat) not in had:
                yield cell, repeat


def left(plan: MeasurementPlan, rows: Sequence[SampleRow]) -> int:
    """Number of samples that the first attempt lacks."""
    return sum(1 for _ in missing(plan, rows, 0))
