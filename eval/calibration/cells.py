"""What is measured: the cells of the grid, and the random order in which rounds of them are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PREFILL, DECODE = "prefill", "decode"


@dataclass(frozen=True, order=True)
class GridCell:
    """One point of the grid.  ``tokens``: prompt length of every row (prefill), or tokens that every row holds
    after the step, its new one included (decode)."""

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


def shuffled(cells: Sequence[GridCell], seed: int, attempt: int, repeat: int) -> list[GridCell]:
    """The order of one round: a function of its arguments alone, so that a restart takes up the same one."""
    order = np.random.default_rng([seed, attempt, repeat]).permutation(len(cells))
    return [cells[place] for place in order]
