"""Sums of columns as vectors: every bit is that of a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_env.compiler.columns import ROWS, add_columns


@pytest.mark.parametrize("rows", [1, 7, ROWS, 11, 3 * ROWS, 4 * ROWS + 3])
@pytest.mark.parametrize("columns", [0, 1, 22])
def test_the_sums_of_a_plain_loop(rows: int, columns: int) -> None:
    """Columns in order, without fused additions; what lies before and behind the matrix is not read."""
    rng = np.random.default_rng(rows + 100 * columns)
    matrix, inputs, start = (
        rng.standard_normal((rows, columns)),
        rng.standard_normal(columns),
        rng.standard_normal(rows),
    )
    packed = np.concatenate([np.full(3, np.nan), matrix.ravel("F"), np.full(ROWS, np.nan)])
    wanted = []
    for h in range(rows):
        total = 0.0
        for j in range(columns):
            total += matrix[h, j] * inputs[j]
        wanted.append(start[h] + total)
    out = np.empty(rows)
    assert add_columns(packed, 3, inputs, start, out) == 3 + rows * columns
    assert out.tolist() == wanted
    assert add_columns(packed, 3, inputs, start, start) == 3 + rows * columns  # in place
    assert start.tolist() == wanted
