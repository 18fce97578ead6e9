"""Was the machine quiet during a run?  A rule that was fixed beforehand, on counters of processor time.

A run is disturbed where other programs and stolen time took more than MOST_SHARE of a core.  It is discarded and made
again, at most TRIES times in all; if no try was quiet, the quietest counts and is marked.  Measured times have no part
in it: a slow run is not repeated because it is slow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmsched.eval.calibration.device.quiet import GRAIN_S, busy_and_stolen_s

MOST_SHARE = 0.05
TRIES = 3
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class ProcessorTimes:
    """Processor seconds since the start of the machine: of all programs, stolen, and of ours."""

    busy_s: float
    stolen_s: float
    own_s: float


@dataclass(frozen=True)
class Disturbance:
    """Shares of one core, during a run: of other programs, stolen; and what our processes took."""

    others: float
    stolen: float
    own: float

    @property
    def quiet(self) -> bool:
        """Whether the run counts."""
        return self.others + self.stolen <= MOST_SHARE


def read_times(sessions: Iterable[int], processes: Path = PROCESSES) -> ProcessorTimes | None:
    """The times now; ``sessions``: of our servers; this process is ours too.  None where the system does not say."""
    found = busy_and_stolen_s()
    if found is None:
        return None
    ours, tick = {str(session) for session in sessions if session}, os.sysconf("SC_CLK_TCK")
    own = 0.0
    for entry in processes.glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if fields[3] in ours or entry.parent.name == str(os.getpid()):
                own += (int(fields[11]) + int(fields[12])) / tick
        except (OSError, ValueError, IndexError):
            continue  # it has ended
    return ProcessorTimes(*found, own)


def disturbance(before: ProcessorTimes | None, after: ProcessorTimes | None, wall_s: float) -> Disturbance | None:
    """What happened between two readings; None where the system does not say."""
    if before is None or after is None or wall_s <= 0.0:
        return None
    busy, stolen, own = (getattr(after, k) - getattr(before, k) for k in ("busy_s", "stolen_s", "own_s"))
    others = max(0.0, busy - stolen - own - GRAIN_S)
    return Disturbance(others / wall_s, max(0.0, stolen) / wall_s, own / wall_s)
