"""Think times: how long a client waits between an answer and its next request."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FORMS = "recorded, none, fixed:S, exp:MEAN or lognormal:MEDIAN:SIGMA (seconds), as exp:10"
LONGEST_S = 1e9


@dataclass(frozen=True)
class ThinkLaw:
    """A law by name and numbers in seconds; ``recorded``: what the trace or the generator says, else 0."""

    kind: str
    numbers: tuple[float, ...] = ()

    @property
    def recorded(self) -> bool:
        """Whether the source of the requests says the times."""
        return self.kind == "recorded"

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Think times of ``n`` requests in s, (n,); those of ``recorded`` are 0."""
        if self.kind == "fixed":
            return np.full(n, self.numbers[0])
        if self.kind == "exp":
            return rng.exponential(self.numbers[0], n)
        if self.kind == "lognormal":
            return self.numbers[0] * np.exp(self.numbers[1] * rng.standard_normal(n))
        return np.zeros(n)


_COUNTS = {"recorded": 0, "none": 0, "fixed": 1, "exp": 1, "lognormal": 2}


def parse_think(text: str) -> ThinkLaw:
    """A law as it is written (FORMS); ``ValueError`` in one line for anything else."""
    kind, *rest = text.split(":")
    try:
        numbers = tuple(map(float, rest))
    except ValueError:
        numbers = (math.nan,)
    if _COUNTS.get(kind) == len(numbers) and all(0 <= number <= LONGEST_S for number in numbers):
        return ThinkLaw(kind, numbers)
    raise ValueError(f"think={text[:40]!r} is not allowed: give {FORMS}, none of them negative.")
