"""The step of many lanes, each from one decision of an agent to the next, made of an engine's parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, typeof, types

from llmsched_env.compiler.addresses import ADDRESSES, arrays_at
from llmsched_env.compiler.parts import part
from llmsched_env.compiler.prefetch import ask_for, ask_for_row
from llmsched_env.core.layout import DECIDE, NONE, OUTCOME, RECORD, SKIP, STEP
from llmsched_env.core.state import ARRAYS, Arrays, lane_state
from llmsched_env.core.view.observation import GLOBAL, PER_BIN, write_observation

STEP_ARRAYS = (
    *ARRAYS.types,
    typeof(np.zeros(1, RECORD)),
    types.int64[:, ::1],
    types.int64[::1],
    types.int8[::1],
    typeof(np.zeros(1, OUTCOME)),
    types.float32[:, ::1],
    types.int8[:, ::1],
    types.float64[::1],
)
"""The arrays of a step: those of the simulator, then record, actions, ladder, mode, outcome, image, valid, order."""

STEP_SIGNATURE = types.void(ADDRESSES, types.float64, types.int64, types.int64)
"""What an entry takes: `addresses` of STEP_ARRAYS; scale; low; high."""

_arrays_at = arrays_at(STEP_ARRAYS)
_STATE = len(ARRAYS.types)


@njit(inline="always")
def step_arrays(words):
    """What the loop takes, (arrays, record, actions, ladder, mode, outcome, image, valid, order), at ``words``."""
    found = _arrays_at(words)
    return (Arrays(*found[:_STATE]), *found[_STATE:])


WAITING_AHEAD, ARRIVALS_AHEAD = 16, 8
"""Requests of the next lane that are asked for in advance: the last to arrive, and the next ones."""


@part
def decode(action, ladder, state, max_bins, target_of):
    """The (choice, size) of an action row: as it stands, or a rung of the ladder.

    The choices of an action are ``max_bins`` bins, `any`, and the overdue queue; bins that do not exist mean `any`.
    Rung 0 of a ladder is wait; then for every choice its sizes in turn, NONE meaning the controllers' target.  A size
    above ``max_batch``, which exists where an agent may refuse, refuses the first request of the choice.
    """
    params = state.params
    choice, size = action[0], action[1]
    if len(ladder) > 0:
        if choice == 0:
            return params.num_bins, 0
        rung = (choice - 1) % len(ladder)
        choice = (choice - 1) // len(ladder)
        size = ladder[rung]
    if choice > max_bins:
        choice = params.num_bins + 1
    elif choice >= params.num_bins:
        if choice < max_bins:
            state.counts.empty_choices += 1
        choice = params.num_bins
    if size == NONE:
        size = target_of(state, choice)
    elif size > params.max_batch:
        size = -1
    return choice, size


@part
def read_ahead(arrays, mode, image, i, high):
    """Ask for the state of the lane after next, and for the requests that the next lane is about to read."""
    if i + 2 < high and mode[i + 2] != SKIP:
        ask_for_row(arrays.lane, i + 2)
        ask_for_row(arrays.bins, i + 2)
        ask_for_row(arrays.servers, i + 2)
        ask_for_row(arrays.slos, i + 2)
        ask_for_row(image, i + 2)
    if i + 1 < high and mode[i + 1] != SKIP:
        lane, requests = arrays.lane[i + 1], arrays.requests
        first = max(0, lane.next_arrival - min(lane.waiting, WAITING_AHEAD))
        last = min(lane.next_arrival + ARRIVALS_AHEAD, requests.shape[1])
        start, size = (i + 1) * requests.strides[0], requests.strides[1]
        ask_for(requests, start + first * size, start + last * size)


@part
def write_outcome(state, result, status, began, holding, misses, tardiness, empty):
    """What a step came to that ``began`` at this time and with these counts, a row of OUTCOME."""
    lane, counts = state.lane, state.counts
    result.status = status
    result.miss = (misses - counts.misses) / lane.loaded
    result.holding = (holding - counts.holding) / lane.loaded
    result.tardiness = (tardiness - counts.tardiness) / lane.loaded
    result.elapsed_s = lane.now - began
    result.time_s = lane.now
    result.empty_choices = counts.empty_choices - empty


def step_loop(
    *,
    advance_of: Callable,
    apply_of: Callable,
    write_record_of: Callable,
    target_of: Callable,
    write_entries_of: Callable,
) -> Callable:
    """The step of many lanes, made of the ``advance``, ``apply`` and ``write_record`` of an engine, and of

    ``target_of(state, choice)``: the controllers' size on the asked server; ``write_entries_of(record, image, at)``:
    what its observation has beyond the common entries, from place ``at`` on.
    """

    @part
    def loop(arrays, record, actions, ladder, mode, outcome, image, valid, order, scale, low, high):
        """Take lanes low, ..., high - 1 to their next decision: SKIP, START (no action yet) or STEP each.

        ``actions`` (N, 2) int64; ``outcome`` (N,) what the interval cost and why it ended; ``image`` (N, size) float32,
        the observation; ``valid`` (N, choices + 1) int8, which choices are valid (bins that have something to serve,
        `any`, an overdue queue where only that has), then whether waiting is possible; ``order`` (servers,) float64
        scratch.  ``record`` (1,) holds the decision record of the
        last lane; ``scale`` is T of the observation, s.
        """
        for i in range(low, high):
            read_ahead(arrays, mode, image, i, high)
            if mode[i] == SKIP:
                continue
            state = lane_state(arrays, i)
            lane = state.lane
            max_bins = valid.shape[1] - 2 - state.params.has_overdue
            counts = state.counts
            holding, misses, tardiness, empty = counts.holding, counts.misses, counts.tardiness, counts.empty_choices
            if counts.decisions == 0:
                misses = 0  # of requests that were rejected before the first decision
            began = lane.now
            status = DECIDE
            if mode[i] == STEP and lane.asked != NONE:  # no server asks where all were rejected
                choice, size = decode(actions[i], ladder, state, max_bins, target_of)
                status = apply_of(state, choice, size)
            if status == DECIDE:
                status = advance_of(state)
            write_record_of(state, record[0], True)
            write_observation(record[0], image[i], scale, max_bins, order)
            write_entries_of(record[0], image[i], len(GLOBAL) + (valid.shape[1] - 1) * len(PER_BIN))
            for k in range(state.params.num_bins):
                valid[i, k] = record[0].queue_length[k] > 0
            valid[i, max_bins] = 1
            if state.params.has_overdue:
                overdue = record[0].queue_length[record[0].overdue]
                valid[i, max_bins + 1] = 0 < overdue == record[0].waiting
            valid[i, valid.shape[1] - 1] = record[0].can_wait
            write_outcome(state, outcome[i], status, began, holding, misses, tardiness, empty)

    return loop


def entry_point(compiled: Callable) -> Callable:
    """The machine code of an entry behind its only signature, without a look at the arguments' types.

    For calls whose arguments never change their types; half the price of the usual way.
    """
    overloads = getattr(compiled, "overloads", None)
    return compiled if overloads is None else next(iter(overloads.values())).entry_point
