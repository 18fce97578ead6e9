"""The largest number at which something still holds: a search by brackets and bisection.

    search = RateSearch(start=2.0, tolerance=0.01)
    run_alone(search, lambda rate: attainment_at(rate) >= 0.95)
    search.low        # the highest rate found to hold

A search asks (`wanted`) and is told (`tell`).  It assumes that what holds at a number holds at every smaller one.  From
``start`` its steps grow until the threshold lies between two numbers, then it halves the gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key")
Number = TypeVar("Number", int, float)


@dataclass
class Search(Generic[Number]):
    """A search that begins at ``start``; its kinds say which number comes above, below and between."""

    start: Number
    low: Number | None = field(default=None, init=False)
    """The largest number known to hold; None: none yet."""
    high: Number | None = field(default=None, init=False)
    """The smallest number known to fail; None: none yet."""

    @property
    def wanted(self) -> Number | None:
        """The next number to try; None when the search is over."""
        if self.low is not None and self.high is not None:
            return self._between(self.low, self.high)
        if self.low is not None:
            return self._above(self.low)
        return self.start if self.high is None else self._below(self.high)

    def tell(self, number: Number, holds: bool) -> None:
        """Note whether it holds at ``number``."""
        if holds:
            self.low = number if self.low is None else max(self.low, number)
        else:
            self.high = number if self.high is None else min(self.high, number)

    def _above(self, low: Number) -> Number | None:
        raise NotImplementedError

    def _below(self, high: Number) -> Number | None:
        raise NotImplementedError

    def _between(self, low: Number, high: Number) -> Number | None:
        raise NotImplementedError


@dataclass
class WholeNumberSearch(Search[int]):
    """A search among the whole numbers from ``lowest`` to ``highest``; the first step is ``step``, then they double."""

    lowest: int
    highest: int
    step: int = 1

    def tell(self, number: int, holds: bool) -> None:
        """Note whether it holds at ``number``; while there is no bracket, the next step is twice as long."""
        super().tell(number, holds)
        if self.low is None or self.high is None:
            self.step *= 2

    def _above(self, low: int) -> int | None:
        return None if low == self.highest else min(low + self.step, self.highest)

    def _below(self, high: int) -> int | None:
        return None if high == self.lowest else max(high - self.step, self.lowest)

    def _between(self, low: int, high: int) -> int | None:
        return None if high - low <= 1 else (low + high) // 2


@dataclass
class RateSearch(Search[float]):
    """A search among positive numbers, to the relative precision ``tolerance``, within ``span`` times ``start``.

    It ends with ``high`` None when it holds at every rate, with ``low`` None when at none.
    """

    tolerance: float
    span: tuple[float, float] = (1e-4, 1e6)

    def _above(self, low: float) -> float | None:
        return None if 2 * low > self.span[1] * self.start else 2 * low

    def _below(self, high: float) -> float | None:
        return None if high / 2 < self.span[0] * self.start else high / 2

    def _between(self, low: float, high: float) -> float | None:
        return None if high <= (1 + self.tolerance) * low else math.sqrt(low * high)


def run_alone(search: Search[Number], holds: Callable[[Number], bool]) -> None:
    """Bring ``search`` to its end; ``holds`` answers one number at a time."""
    while (number := search.wanted) is not None:
        search.tell(number, holds(number))


def run_side_by_side(
    searches: Mapping[Key, Search[Number]], ask: Callable[[Sequence[tuple[Key, Number]]], Iterable[bool]]
) -> dict[Key, Number | None]:
    """Bring all searches to their ends, round by round; ``ask`` answers the numbers of a round together.

    Returns the largest number that holds, by key; None where none does.
    """
    while True:
        asked = [(key, number) for key, search in searches.items() if (number := search.wanted) is not None]
        if not asked:
            return {key: search.low for key, search in searches.items()}
        for (key, number), holds in zip(asked, ask(asked), strict=True):
            searches[key].tell(number, holds)
