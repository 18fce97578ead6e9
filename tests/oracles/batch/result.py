"""A batch, the server that plays it, and what a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmsched_env.profiles import Profile
from tests.oracles.batch.batches import Run
from tests.oracles.batch.controllers import ControllerState
from tests.oracles.batch.requests import IN_SERVICE, WAITING
from tests.oracles.batch.view import LastBatch


@dataclass
class Batch:
    """A batch as it was launched, and how it went."""

    number: int
    server: int
    bin: int
    members: tuple[int, ...]
    dispatch: float
    start: float  # dispatch + overhead
    end: float
    peak_tokens: float
    run: Run = field(repr=False)


@dataclass
class Server:
    """A server and what it is doing."""

    number: int
    profile: Profile
    eta: float
    batch: Batch | None = None
    last: LastBatch = LastBatch()


@dataclass(frozen=True)
class Decision:
    """A question and its answer as given (before masks and clips)."""

    time: float
    server: int
    bin: int
    size: int
    lengths: tuple[int, ...]  # waiting per bin


@dataclass
class ReferenceResult:
    """Everything that a run leaves behind."""

    planned: list[int]  # the row of the Requests that request i is; those that never arrived last
    arrival: NDArray[np.float64]
    dispatch: NDArray[np.float64]
    first_token: NDArray[np.float64]
    last_token: NDArray[np.float64]
    completion: NDArray[np.float64]
    left: NDArray[np.float64]
    status: NDArray[np.int64]
    reason: list[str]
    preemptions: NDArray[np.int64]
    batches: list[Batch]
    decisions: list[Decision]
    empty_choices: int
    controllers: list[ControllerState]
    trace: list[list[ControllerState]]
    in_system_integral: float
    end: float

    def count(self, *statuses: int) -> int:
        """Requests that ended with one of these."""
        return int(np.isin(self.status, statuses).sum())

    @property
    def unfinished(self) -> int:
        """Requests that had not ended when the run was cut off."""
        return self.count(WAITING, IN_SERVICE)
