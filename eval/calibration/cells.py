"""The grid of a calibration: its cells, and the random order of a round over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PREFILL, DECODE = "prefill", "decode"


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
