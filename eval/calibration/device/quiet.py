"""Measuring beside other programs: what they disturbed is taken again, as long as patience lasts.

Whether something was disturbed is read from the system's counters of processor time, never from the time that was
measured: nothing is taken again for being slow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from llmsched.eval.calibration.cells import GridCell

MOST_SHARE = 0.1
"""Of one core: what other programs may take while something is measured."""

GRAIN_S = 0.02
"""The counters move in steps; so much more is not yet a disturbance."""

PAUSE_S = 0.2
"""Wait before something is taken again."""

STAT = Path("/proc/stat")
Found = TypeVar("Found")


class MeasuringServer(Protocol):
    """What is watched: TorchMeasurer."""

    def sample(self, cell: GridCell) -> float:
        """Milliseconds of a cell."""

    def serve(self, prompts: Sequence[int], outputs: Sequence[int]) -> tuple[float, float]:
        """Milliseconds to the first token of a batch, and from it to the end."""


def others_s() -> float | None:
    """Processor seconds that all other programs have taken since the start (stolen ones too); None if unknown."""
    try:
        fields = STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[1:9])
    except (OSError, ValueError):
        return None
    own = os.times()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - own.user - own.system


class Undisturbed:
    """A runner whose samples and batches are taken again while others are at work, ``patience_s`` in all."""

    def __init__(
        self,
        runner: MeasuringServer,
        patience_s: float,
        others: Callable[[], float | None] = others_s,
        pause_s: float = PAUSE_S,
    ) -> None:
        self.runner, self.patience_s, self._others, self._pause_s = runner, patience_s, others, pause_s
        self.again = 0  # measurements taken again
        self.disturbed = 0  # disturbed ones that count: patience was at its end

    def sample(self, cell: GridCell) -> float:
        """As the runner has it."""
        return self._watched(lambda: self.runner.sample(cell))

    def serve(self, prompts: Sequence[int], outputs: Sequence[int]) -> tuple[float, float]:
        """As the runner has it."""
        return self._watched(lambda: self.runner.serve(prompts, outputs))

    def _watched(self, measure: Callable[[], Found]) -> Found:
        while True:
            began, before = time.monotonic(), self._others()
            found = measure()
            spent, after = time.monotonic() - began, self._others()
            if before is None or after is None or after - before <= MOST_SHARE * spent + GRAIN_S:
                return found
            if self.patience_s <= 0.0:
                self.disturbed += 1
                return found
            self.again += 1
            time.sleep(self._pause_s)
            self.patience_s -= time.monotonic() - began
