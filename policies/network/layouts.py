"""The layout of the network of each engine, and how its weights are packed into one row of numbers.

Packed order: the number of hidden units, then every array in the order of the layout's list of shapes.  A matrix is
packed row by row, or column by column where the compiled scores add a column at a time (batch_scores).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import batch_layout, continuous_layout

Arrays = Mapping[str, NDArray[np.float64]]
"""Weights by name."""


@dataclass(frozen=True)
class Layout:
    """What the network of one engine reads and is made of."""

    description: Mapping[str, Any]
    """Inputs and meaning of the scores, as a checkpoint's JSON carries them."""

    shapes: Callable[[int], dict[str, tuple[int, ...]]]
    """Function of the number of hidden units: shape of every array, in packed order."""

    order: Literal["C", "F"] = "C"
    """Order of the entries of a matrix: row by row (C), or column by column (F)."""

    def pack(self, arrays: Arrays) -> NDArray[np.float64]:
        """The row of numbers (P,) that the compiled scores read: hidden units, then every array."""
        hidden = len(arrays["bias"])
        return np.concatenate([[float(hidden)], *(arrays[name].ravel(self.order) for name in self.shapes(hidden))])

    def unpack(self, packed: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The arrays of a packed row (P,); the inverse of `pack`.  ``ValueError`` when the row has another length."""
        shapes = self.shapes(int(packed[0]))
        ends = np.cumsum([1, *(math.prod(shape) for shape in shapes.values())])
        if len(packed) != ends[-1]:
            raise ValueError(f"{len(packed)} packed numbers: {ends[-1]} make {int(packed[0])} hidden units.")
        parts = np.split(packed, ends)[1:-1]
        return {
            name: part.reshape(shape, order=self.order)
            for part, (name, shape) in zip(parts, shapes.items(), strict=True)
        }

    def zeros(self, hidden: int) -> dict[str, NDArray[np.float64]]:
        """The arrays of a network that scores everything 0."""
        return {name: np.zeros(shape) for name, shape in self.shapes(hidden).items()}


LAYOUTS = {
    "batch": Layout(batch_layout.LAYOUT, batch_layout.shapes, order="F"),
    "continuous": Layout(continuous_layout.LAYOUT, continuous_layout.shapes),
}
"""By engine."""
