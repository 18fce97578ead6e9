"""The latency form `table`: measured grids, linear between their points (docs/reference/semantics.md).

``c`` holds, in this order: the numbers of batches m, of contexts n and of token counts t; p2; the m batches; the n
contexts (tokens of one member); the m x n times of a decode step; the t token counts; the t times of a prefill.
Below its first point a grid is constant, above its last one it goes on as between the last two.
"""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import apart, part

BATCHES = 4
"""Place of the first batch in ``c``."""


@part
def _interval(c, start, count, value):
    """The interval of the ``count`` ascending points from ``c[start]`` on in which ``value`` lies: (number, share)."""
    if count < 2 or value <= c[start]:
        return 0, 0.0
    k = 0
    while k < count - 2 and value >= c[start + k + 1]:
        k += 1
    return k, (value - c[start + k]) / (c[start + k + 1] - c[start + k])


@part
def _mixture(c, low, high, share):
    """Between the numbers at the places ``low`` and ``high``; exactly the first at share 0."""
    return c[low] if share == 0.0 else c[low] + share * (c[high] - c[low])


@apart
def table_piece(c, batch, context):
    """A decode step as ``latency.step_piece`` gives it: in a batch, pieces end where the mean context is a point."""
    m, n = int(c[0]), int(c[1])
    contexts = BATCHES + m
    times = contexts + n
    i, share = _interval(c, BATCHES, m, batch)
    row, next_row = times + i * n, times + min(i + 1, m - 1) * n
    mean = context / batch
    if n < 2 or mean < c[contexts]:
        end = math.inf if n < 2 else c[contexts] * batch
        return _mixture(c, row, next_row, share), 0.0, end
    j, _ = _interval(c, contexts, n, mean)
    low = _mixture(c, row + j, next_row + j, share)
    high = _mixture(c, row + j + 1, next_row + j + 1, share)
    slope = (high - low) / (c[contexts + j + 1] - c[contexts + j])
    end = math.inf if j == n - 2 else c[contexts + j + 1] * batch
    return low - slope * c[contexts + j], slope / batch, end


@part
def _tokens_time(c, tokens):
    """Time of the prefill of ``tokens`` tokens as the grid has it."""
    m, n, t = int(c[0]), int(c[1]), int(c[2])
    points = BATCHES + m + n + m * n
    k, share = _interval(c, points, t, tokens)
    return _mixture(c, points + t + k, points + t + min(k + 1, t - 1), share)


@apart
def table_prefill(c, tokens, squares):
    """``latency.prefill``."""
    return _tokens_time(c, tokens) + c[3] * squares


@part
def table_chunks(c, batch, tokens, squares):
    """What chunks of ``tokens`` tokens add to a decode step of ``batch`` members."""
    return _tokens_time(c, batch + tokens) - _tokens_time(c, batch) + c[3] * squares
