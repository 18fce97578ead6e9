"""The signature of a routing policy, and how a Python function becomes one that the kernel can call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, typeof, types

from llmsched_env.core.view.route_row import ROUTE_RECORD

ROUTE_SIGNATURE = types.int64(
    typeof(np.zeros(1, ROUTE_RECORD)).dtype,
    types.float64[::1],
    types.float64[::1],
    typeof(np.random.default_rng(0)),
)
"""(record, params, memory, rng) -> server: one row of ROUTE_RECORD, the policy's parameters, its own memory (kept
between decisions, zeros at the start of a run), and a generator of its own."""

ROUTE_TYPE = types.FunctionType(ROUTE_SIGNATURE)


def compile_route(function: Callable, *, cache: bool = True) -> Callable:
    """Compile ``function(record, params, memory, rng) -> server`` for the kernel.

    With ``cache=True`` the machine code is kept beside the function's file; functions without a file
    (typed at a prompt) need ``cache=False``.
    """
    return njit(ROUTE_SIGNATURE, cache=cache)(function)
