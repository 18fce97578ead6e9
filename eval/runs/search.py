"""Where something stops holding: brackets and bisection over whole numbers, many searches side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key")


@dataclass
class Search:
    """The largest whole number from ``lowest`` to ``highest`` at which something holds, which holds below it too.

    Steps from ``start`` double until it lies between two numbers, then they halve.
    """

    start: int
    lowest: int
    highest: int
    step: int = 1
    low: int | None = None  # the largest known to hold
    high: int | None = None  # the smallest known to fail

    @property
    def wanted(self) -> int | None:
        """The next number to try; None when the search is over."""
        if self.low is None and self.high is None:
            return self.start
        if self.high is None:
            assert self.low is not None
            return None if self.low == self.highest else min(self.low + self.step, self.highest)
        if self.low is None:
            return None if self.high == self.lowest else max(self.high - self.step, self.lowest)
        return None if self.high - self.low <= 1 else (self.low + self.high) // 2

    def tell(self, number: int, holds: bool) -> None:
        """What trying ``number`` gave."""
        if holds:
            self.low = number if self.low is None else max(self.low, number)
        else:
            self.high = number if self.high is None else min(self.high, number)
        if self.low is None or self.high is None:
            self.step *= 2


def side_by_side(
    searches: Mapping[Key, Search], tried: Callable[[Sequence[tuple[Key, int]]], Iterable[bool]]
) -> dict[Key, int | None]:
    """Bring all searches to an end, round by round; ``tried`` answers the questions of a round together.

    Returns the numbers found, None where it never holds.
    """
    while True:
        asked = [(key, number) for key, search in searches.items() if (number := search.wanted) is not None]
        if not asked:
            return {key: search.low for key, search in searches.items()}
        for (key, number), holds in zip(asked, tried(asked), strict=True):
            searches[key].tell(number, holds)
