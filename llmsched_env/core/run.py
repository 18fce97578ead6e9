"""The run of one lane from start to stop under a compiled policy, made of an engine's parts.  No allocation, no
Python."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, typeof, types

from llmsched_env.compiler.borrow import borrow
from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import (
    BATCH,
    BIN,
    DECIDE,
    EXPIRY,
    LANE,
    RECORD,
    REQUEST,
    SERVER,
    SLO_ROW,
    SLOT,
)
from llmsched_env.core.state import State
from llmsched_env.core.view.decide import DECIDE_TYPE

ARRAYS = types.Tuple(
    [
        typeof(np.zeros((1,) * dimensions, dtype))
        for dtype, dimensions in (
            (LANE, 1),
            (BIN, 2),
            (SERVER, 2),
            (REQUEST, 2),
            (np.int32, 3),
            (SLO_ROW, 2),
            (np.int32, 2),
            (BATCH, 2),
            (np.int64, 2),
            (np.int32, 2),
            (SLOT, 3),
            (EXPIRY, 2),
        )
    ]
)
"""The state arrays of all lanes, in the order of state.State, each with a leading lane axis."""


@njit(inline="always")  # a State holds records, which a compiled function cannot return
def lane_state(arrays, i):
    """Lane ``i`` of the state arrays."""
    return State(
        arrays[0][i],
        borrow(arrays[1][i]),
        borrow(arrays[2][i]),
        borrow(arrays[3][i]),
        borrow(arrays[4][i]),
        borrow(arrays[5][i]),
        borrow(arrays[6][i]),
        borrow(arrays[7][i]),
        borrow(arrays[8][i]),
        borrow(arrays[9][i]),
        borrow(arrays[10][i]),
        borrow(arrays[11][i]),
    )


RUN_SIGNATURE = types.int64(
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
    def loop(state, row, decide, params, memory, rng, details, limit):
        """Run until the lane stops or ``limit`` decisions were made.

        Returns DECIDE (the limit), DRAINED, HORIZON, NEED_MORE, or BAD_BIN / BAD_SIZE with the answer left
        in ``row.last_size`` (bin) and ``row.server_batches`` (size).
        """
        for _ in range(limit):
            status = advance_of(state)
            if status != DECIDE:
                return status
            write_record_of(state, row, details)
            choice, size = decide(row, params, memory, rng)
            status = apply_of(state, choice, size)
            if status != DECIDE:
                row.last_size, row.server_batches = choice, size
                return status
        return DECIDE

    return loop
