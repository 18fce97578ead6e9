"""Length laws: prompt and output tokens of a request, drawn in bulk.

A law draws in sequence from one generator, so the lengths do not depend on the sizes of the pieces they
are read in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numba as nb
import numpy as np
from numpy.typing import NDArray

IntPair = tuple[NDArray[np.int32], NDArray[np.int32]]


class LengthLaw(Protocol):
    """The joint law of prompt and output lengths."""

    @property
    def output_max(self) -> int:
        """Longest output the law can give, tokens."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> IntPair:
        """Prompt and output tokens of ``n`` requests, int32, at least 1."""
        ...


@dataclass(frozen=True)
class Component:
    """One bivariate normal in (ln prompt, ln output)."""

    weight: float
    mean: tuple[float, float]
    cov: tuple[float, float, float]  # var(ln prompt), covariance, var(ln output)


@dataclass(frozen=True)
class LognormalMixture:
    """A mixture of bivariate lognormals, rounded and clipped to [1, ``prompt_max``] x [1, ``output_max``]."""

    components: tuple[Component, ...]
    prompt_max: int
    output_max: int

    def __post_init__(self) -> None:
        if not self.components:
            raise ValueError("a mixture without components: give at least one.")
        for c in self.components:
            if not (c.weight > 0 and c.cov[0] >= 0 and c.cov[1] ** 2 <= c.cov[0] * c.cov[2] + 1e-12):
                raise ValueError(f"mixture component {c} is not a law: weight above 0, covariance matrix needed.")
        if self.prompt_max < 1 or self.output_max < 1:
            raise ValueError("prompt_max and output_max must be at least 1 token.")

    def draw(self, n: int, rng: np.random.Generator) -> IntPair:
        """Prompt and output tokens of ``n`` requests, int32, at least 1."""
        prompt, output = np.empty(n, np.int32), np.empty(n, np.int32)
        _fill_mixture(prompt, output, self._rows, self.prompt_max, self.output_max, rng)
        return prompt, output

    @cached_property
    def _rows(self) -> NDArray[np.float64]:
        """Per component: cumulative weight, two means, Cholesky factor (l11, l21, l22); heaviest first."""
        ordered = sorted(self.components, key=lambda c: -c.weight)
        total, below, rows = math.fsum(c.weight for c in ordered), 0.0, []
        for c in ordered:
            below += c.weight / total
            first = math.sqrt(c.cov[0])
            cross = c.cov[1] / first if first > 0 else 0.0
            rows.append((below, *c.mean, first, cross, math.sqrt(max(0.0, c.cov[2] - cross**2))))
        table = np.array(rows)
        table[-1, 0] = 1.0
        return table


@dataclass(frozen=True)
class UniformLengths:
    """Prompts of ``prompt`` tokens and outputs uniform on 1..``output_max``."""

    prompt: int
    output_max: int

    def draw(self, n: int, rng: np.random.Generator) -> IntPair:
        """Prompt and output tokens of ``n`` requests, int32, at least 1."""
        output = (rng.random(n) * self.output_max).astype(np.int32) + np.int32(1)
        return np.full(n, self.prompt, np.int32), output


@nb.njit(cache=True)
def _fill_mixture(
    prompt: NDArray[np.int32],
    output: NDArray[np.int32],
    rows: NDArray[np.float64],
    prompt_max: int,
    output_max: int,
    rng: np.random.Generator,
) -> None:
    """Fill ``prompt`` and ``output``; ``rows`` is the ``LognormalMixture._rows``."""
    for i in range(prompt.size):
        u = rng.random()
        c = 0
        while u >= rows[c, 0]:
            c += 1
        z = rng.standard_normal()
        log_prompt = rows[c, 1] + rows[c, 3] * z
        log_output = rows[c, 2] + rows[c, 4] * z + rows[c, 5] * rng.standard_normal()
        prompt[i] = min(max(1.0, np.rint(math.exp(log_prompt))), prompt_max)
        output[i] = min(max(1.0, np.rint(math.exp(log_output))), output_max)
