"""The grid of a calibration: its cells, the work that each is, and the random order of a round over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

PREFILL, DECODE, MIXED = "prefill", "decode", "mixed"


class Work(NamedTuple):
    """What an iteration computes, in the terms of the latency law (docs/reference/continuous.md, 2.3).

    ``members`` decode, with ``context`` tokens in sum, beside chunks of ``tokens`` in sum; ``squares``: Q of these.
    """

    members: float
    context: float
    tokens: float
    squares: float

    @property
    def phase(self) -> str:
        """Decoding alone, chunks alone, or both."""
        return DECODE if not self.tokens else MIXED if self.members else PREFILL

    @property
    def work(self) -> Work:
        """Itself: an iteration can be a cell."""
        return self


class Cell(Protocol):
    """What was measured: a `GridCell`, or the work of an iteration."""

    @property
    def phase(self) -> str:
        """PREFILL, DECODE or MIXED."""

    @property
    def work(self) -> Work:
        """What was computed."""


@dataclass(frozen=True, order=True)
class GridCell:
    """One point of the grid.  ``tokens`` per row: the prompt (prefill), or the context after the step (decode)."""

    phase: str
    batch: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.phase} {self.batch} x {self.tokens}"

    @property
    def total(self) -> int:
        """Tokens in all rows."""
        return self.batch * self.tokens

    @property
    def squares(self) -> int:
        """Sum over the rows of their tokens squared."""
        return self.batch * self.tokens**2

    @property
    def work(self) -> Work:
        """What is computed."""
        return Work(self.batch, self.total, 0, 0) if self.phase == DECODE else Work(0, 0, self.total, self.squares)


def grid(
    batches: Sequence[int], prompts: Sequence[int], contexts: Sequence[int], most_prefill_tokens: float
) -> list[GridCell]:
    """Every batch with every prompt (prefill, of at most ``most_prefill_tokens``) and every context (decode)."""
    prefill = [
        GridCell(PREFILL, b, p) for b in sorted(batches) for p in sorted(prompts) if b * p <= most_prefill_tokens
    ]
    return prefill + [GridCell(DECODE, b, c) for b in sorted(batches) for c in sorted(contexts)]


def shuffle_cells(cells: Sequence[GridCell], seed: int, attempt: int, repeat: int) -> list[GridCell]:
    """The order of one round, a function of the arguments alone: a restart continues in the same order."""
    order = np.random.default_rng([seed, attempt, repeat]).permutation(len(cells))
    return [cells[place] for place in order]
