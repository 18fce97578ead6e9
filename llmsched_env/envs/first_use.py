"""What is compiled at first use besides an engine and its policies: small functions that every use needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import typeof, types

from llmsched_env.compiler.parts import jit_is_off
from llmsched_env.core.layout import REQUEST
from llmsched_env.core.load import alone_timer, rows_loader
from llmsched_env.simulation import metrics
from llmsched_env.workload import arrivals, lengths

_ROWS, _SUMS = typeof(np.zeros(1, REQUEST)), typeof(np.zeros(1, metrics._SUMS))
_LINE, _PLANE, _RNG = types.float64[::1], types.float64[:, ::1], typeof(np.random.default_rng(0))
_COUNTS, _TOKENS = types.int64[::1], types.int32[::1]

SMALL: tuple[tuple[Any, tuple[types.Type, ...]], ...] = (
    (lengths._fill_mixture, (_TOKENS, _TOKENS, _PLANE, types.int64, types.int64, _RNG)),
    (arrivals._fill_cox, (_LINE, _LINE, types.float64, _LINE, _PLANE, _PLANE, _RNG)),
    (metrics.measure, (_ROWS, _PLANE)),
    (metrics._tally, (_ROWS, types.bool_[::1], types.float64, _SUMS, types.int64[:, ::1])),
    (metrics.count_log_bins, (_LINE, _COUNTS)),
)
"""Functions that Numba compiles when they are called, and the types of what they are called with, in the order of a
run."""


def compile_small() -> None:
    """Compile all of them, or read them from disk."""
    rows_loader()
    if not jit_is_off():
        for function, kinds in SMALL:
            function.compile(kinds)
    alone_timer()
