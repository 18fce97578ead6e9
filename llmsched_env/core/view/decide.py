"""The signature of a policy, and how a Python function becomes one that the kernel can call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, typeof, types

from llmsched_env.core.layout import RECORD

DECIDE_SIGNATURE = types.UniTuple(types.int64, 2)(
    typeof(np.zeros(1, RECORD)).dtype,
    types.float64[::1],
    types.float64[::1],
    typeof(np.random.default_rng(0)),
)
"""(record, params, memory, rng) -> (bin, size): one row of layout.RECORD, the policy's parameters, its own
memory (kept between decisions, zeros at the start of a run), and a generator of its own."""

DECIDE_TYPE = types.FunctionType(DECIDE_SIGNATURE)


def compile_policy(function: Callable, *, cache: bool = True) -> Callable:
    """Compile ``function(record, params, memory, rng) -> (bin, size)`` for the kernel.

    With ``cache=True`` the machine code is kept beside the function's file; functions without a file
    (typed at a prompt) need ``cache=False``.
    """
    return njit(DECIDE_SIGNATURE, cache=cache)(function)
