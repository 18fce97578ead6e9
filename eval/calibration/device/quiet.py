"""Measurements while other programs run: disturbed ones are repeated, within a limit of time.

Whether a measurement was disturbed is read from the system's counters of processor time, never from the measured time:
a slow sample is not repeated because it is slow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from llmsched.eval.calibration.cells import GridCell

MOST_SHARE = 0.1
"""Share of one core that other programs may take during a measurement."""

GRAIN_S = 0.02
"""Tolerance in seconds, because the counters move in steps."""

PAUSE_S = 0.2
"""Seconds to wait before a measurement is repeated."""

STAT = Path("/proc/stat")
Found = TypeVar("Found")


class MeasuringServer(Protocol):
    """A server that is measured: TorchMeasurer."""

    def sample(self, cell: GridCell) -> float:
        """Milliseconds of a cell."""

    def serve(self, prompts: Sequence[int], outputs: Sequence[int]) -> tuple[float, float]:
        """Milliseconds to the first token of a batch, and from it to the end."""


def busy_and_stolen_s() -> tuple[float, float] | None:
    """Processor seconds of all programs since the start, with stolen time, and stolen time alone; None if unknown."""
    try:
        fields = STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[1:9])
    except (OSError, ValueError):
        return None
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + steal) / tick, steal / tick


def others_s() -> float | None:
    """Processor seconds of all other programs since the start, with stolen time; None if unknown."""
    found, own = busy_and_stolen_s(), os.times()
    return None if found is None else found[0] - own.user - own.system


class Undisturbed:
    """A server whose disturbed samples and batches are repeated, for at most ``patience_s`` seconds in all."""

    def __init__(
        self,
        runner: MeasuringServer,
        patience_s: float,
        others: Callable[[], float | None] = others_s,
        pause_s: float = PAUSE_S,
    ) -> None:
        self.runner, self.patience_s, self._others, self._pause_s = runner, patience_s, others, pause_s
        self.again = 0  # measurements that were repeated
        self.disturbed = 0  # disturbed measurements that count, after the limit of time

    def sample(self, cell: GridCell) -> float:
        """As in the server."""
        return self._watched(lambda: self.runner.sample(cell))

    def serve(self, prompts: Sequence[int], outputs: Sequence[int]) -> tuple[float, float]:
        """As in the server."""
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
