"""The run of one lane from start to stop under a compiled policy, made of an engine's parts.  No allocation, no
Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numba import typeof, types

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import DECIDE, RECORD
from llmsched_env.core.state import ARRAYS
from llmsched_env.core.view.decide import DECIDE_TYPE

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

RUN_SIGNATURE = types.UniTuple(types.int64, 3)(
    ARRAYS,
    typeof(np.zeros(1, RECORD)),
    DECIDE_TYPE,
    types.float64[::1],
    types.float64[::1],
    typeof(np.random.default_rng(0)),
    types.boolean,
    types.int64,
)


def run_loop(*, advance_of: Callable, apply_of: Callable, write_record_of: Callable) -> Callable:
    """The run of a lane, made of the ``advance``, ``apply`` and ``write_record`` of an engine."""

    @part
    def loop(state: State, row, decide, params, memory, rng, details, limit):
        """Run until the lane stops or ``limit`` decisions were made.

        Returns (status, choice, size): DECIDE (the limit), DRAINED, HORIZON or NEED_MORE with the last answer, or
        BAD_BIN / BAD_SIZE with the answer that was refused.
        """
        choice, size = 0, 0
        for _ in range(limit):
            status = advance_of(state)
            if status != DECIDE:
                return status, choice, size
            write_record_of(state, row, details)
            choice, size = decide(row, params, memory, rng)
            status = apply_of(state, choice, size)
            if status != DECIDE:
                return status, choice, size
        return DECIDE, choice, size

    return loop
