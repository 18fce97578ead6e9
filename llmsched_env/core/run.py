"""The compiled run: one lane from start to stop under a compiled policy.  No allocation, no Python."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, typeof, types

from llmsched_env.compiler.borrow import borrow
from llmsched_env.compiler.parts import fingerprint, part
from llmsched_env.core.layout import (
    BATCH,
    BIN,
    DECIDE,
    EXPIRY,
    LANE,
    NONE,
    PENDING,
    RECORD,
    REQUEST,
    SERVER,
    SLO_ROW,
    SLOT,
)
from llmsched_env.core.state import State
from llmsched_env.core.view.decide import DECIDE_TYPE
from llmsched_env.core.view.record import write_record
from llmsched_env.engines.batch.events import advance, apply

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


LOAD_SIGNATURE = types.void(
    typeof(np.zeros(1, REQUEST)),
    types.float64[::1],
    types.int32[::1],
    types.int32[::1],
    types.int32[::1],
    types.int8[::1],
    types.float64[::1],
    types.int64[::1],
)


def run_loop(advance: Callable, apply: Callable, write_record: Callable) -> Callable:
    """The run of a lane, made of an engine's parts."""

    @part
    def loop(state, row, decide, params, memory, rng, details, limit):
        """Run until the lane stops or ``limit`` decisions were made; why it stopped."""
        for _ in range(limit):
            status = advance(state)
            if status != DECIDE:
                return status
            write_record(state, row, details)
            choice, size = decide(row, params, memory, rng)
            status = apply(state, choice, size)
            if status != DECIDE:
                row.last_size, row.server_batches = choice, size
                return status
        return DECIDE

    return loop


_loop = run_loop(advance, apply, write_record)


def entries(sources: str) -> tuple[Callable, Callable]:
    """The compiled entries; ``sources`` (compiled.fingerprint) is a closure variable and so part of their cache key."""

    @njit(RUN_SIGNATURE, cache=True, nogil=True)
    def run_lane(arrays, record, decide, params, memory, rng, details, limit):
        """Run lane 0 under ``decide`` until it stops or ``limit`` decisions were made.

        Returns DECIDE (the limit), DRAINED, HORIZON, NEED_MORE, or BAD_BIN / BAD_SIZE with the answer left
        in ``record[0].last_size`` (bin) and ``record[0].server_batches`` (size).
        """
        sources  # noqa: B018
        return _loop(lane_state(arrays, 0), record[0], decide, params, memory, rng, details, limit)

    @njit(LOAD_SIGNATURE, cache=True, nogil=True)
    def load_rows(rows, arrival, prompt, output, predicted, slo_class, key, edges):
        """Write requests that are still to come into ``rows``; their bin is the number of edges <= predicted."""
        sources  # noqa: B018
        for i in range(len(rows)):
            row = rows[i]
            row.arrival, row.prompt, row.output, row.predicted = arrival[i], prompt[i], output[i], predicted[i]
            row.slo_class, row.key = slo_class[i], key[i]
            place = 0
            while place < len(edges) and edges[place] <= predicted[i]:
                place += 1
            row.bin = place
            row.generated = row.missed = row.evictions = row.late = 0
            row.next = row.prev = row.batch = NONE
            row.group = 0
            row.status = PENDING
            row.dispatch = row.first_token = row.last_token = row.completion = np.nan

    return run_lane, load_rows


run_lane, load_rows = entries(fingerprint())
