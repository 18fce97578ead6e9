"""The compiled run: one lane from start to stop under a compiled policy.  No allocation, no Python."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, typeof, types

from llmsched_env.borrow import borrow
from llmsched_env.compiled import fingerprint, part
from llmsched_env.controllers import current_target
from llmsched_env.decide import DECIDE_TYPE
from llmsched_env.events import advance, apply
from llmsched_env.layout import (
    BATCH,
    BIN,
    DECIDE,
    LANE,
    NONE,
    OUTCOME,
    PENDING,
    RECORD,
    REQUEST,
    SERVER,
    SKIP,
    SLO_ROW,
    STEP,
)
from llmsched_env.observation import GLOBAL, PER_BIN, write_observation
from llmsched_env.record import write_record
from llmsched_env.state import State

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


STEP_SIGNATURE = types.void(
    ARRAYS,
    typeof(np.zeros(1, RECORD)),
    types.int64[:, ::1],
    types.int64[::1],
    types.int8[::1],
    typeof(np.zeros(1, OUTCOME)),
    types.float32[:, ::1],
    types.int8[:, ::1],
    types.float64[::1],
    types.float64,
    types.int64,
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


@part
def decode(action, ladder, state, max_bins):
    """The (bin, size) of an action row: as it stands, or a rung of the ladder; bins from K on mean `any`.

    A ladder's rung 0 is wait; then for every choice its sizes in turn, NONE meaning the controllers' target.
    """
    lane = state.lane
    choice, size = action[0], action[1]
    if len(ladder) > 0:
        if choice == 0:
            return lane.num_bins, 0
        rung = (choice - 1) % len(ladder)
        choice = (choice - 1) // len(ladder)
        size = ladder[rung]
        if size == NONE:
            size = current_target(lane, state.bins[min(choice, lane.num_bins)])
    if choice >= lane.num_bins:
        if choice < max_bins:
            lane.empty_choices += 1
        choice = lane.num_bins
    return choice, size


def entries(sources: str) -> tuple[Callable, Callable, Callable]:
    """The compiled entries; ``sources`` (compiled.fingerprint) is a closure variable and so part of their cache key."""

    @njit(RUN_SIGNATURE, cache=True, nogil=True)
    def run_lane(arrays, record, decide, params, memory, rng, details, limit):
        """Run lane 0 under ``decide`` until it stops or ``limit`` decisions were made.

        Returns DECIDE (the limit), DRAINED, HORIZON, NEED_MORE, or BAD_BIN / BAD_SIZE with the answer left
        in ``record[0].last_size`` (bin) and ``record[0].server_batches`` (size).
        """
        sources  # noqa: B018
        state = lane_state(arrays, 0)
        row = record[0]
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

    @njit(STEP_SIGNATURE, cache=True, nogil=True)
    def step_lanes(arrays, record, actions, ladder, mode, outcome, image, valid, order, scale, low, high):
        """Take lanes low, ..., high - 1 to their next decision: SKIP, START (no action yet) or STEP each.

        ``actions`` (N, 2); ``outcome`` (N,) what the interval cost and why it ended; ``image`` (N, size) the
        observation; ``valid`` (N, max_bins + 1) which bins have something to serve, and at the end whether waiting
        is possible; ``order`` (servers,) scratch.  ``record`` holds the decision record of the last lane.
        """
        sources  # noqa: B018
        max_bins = (image.shape[1] - len(GLOBAL)) // len(PER_BIN) - 1
        for i in range(low, high):
            if mode[i] == SKIP:
                continue
            state = lane_state(arrays, i)
            lane, result = state.lane, outcome[i]
            holding, misses, late, empty = lane.holding, lane.misses, lane.late, lane.empty_choices
            began = lane.now
            status = DECIDE
            if mode[i] == STEP:
                choice, size = decode(actions[i], ladder, state, max_bins)
                status = apply(state, choice, size)
            if status == DECIDE:
                status = advance(state)
            write_record(state, record[0], True)
            write_observation(record[0], image[i], scale, max_bins, order)
            for k in range(lane.num_bins):
                valid[i, k] = record[0].queue_length[k] > 0
            valid[i, max_bins] = record[0].can_wait
            result.status = status
            result.miss = (misses - lane.misses) / lane.loaded
            result.holding = (holding - lane.holding) / lane.loaded
            result.late = (late - lane.late) / lane.loaded
            result.elapsed_s = lane.now - began
            result.time_s = lane.now
            result.empty_choices = lane.empty_choices - empty

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
            row.generated = row.missed = row.evictions = 0
            row.next = row.batch = NONE
            row.status = PENDING
            row.dispatch = row.first_token = row.last_token = row.completion = np.nan

    return run_lane, step_lanes, load_rows


run_lane, step_lanes, load_rows = entries(fingerprint())


def entry_point(compiled: Callable) -> Callable:
    """The machine code of an entry behind its only signature, without a look at the arguments' types.

    For calls whose arguments never change their types; half the price of the usual way.
    """
    overloads = getattr(compiled, "overloads", None)
    return compiled if overloads is None else next(iter(overloads.values())).entry_point
