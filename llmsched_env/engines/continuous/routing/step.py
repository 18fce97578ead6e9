"""The compiled step of many routers; compiled, or read from disk, when this file is first imported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import typeof, types

from llmsched_env.compiler.addresses import arrays_at
from llmsched_env.compiler.parts import entry_of, fingerprint, part
from llmsched_env.core.layout import DECIDE, NONE, OUTCOME, ROUTE_RECORD, SKIP, STEP
from llmsched_env.core.state import ARRAYS, Arrays, lane_state
from llmsched_env.core.step import STEP_SIGNATURE, write_outcome
from llmsched_env.core.view.route_view import write_route_observation
from llmsched_env.engines.continuous.events import advance, apply
from llmsched_env.engines.continuous.routing.asked import apply_route, write_route_record

ROUTE_STEP_ARRAYS = (
    *ARRAYS.types,
    typeof(np.zeros(1, ROUTE_RECORD)),
    types.int64[:, ::1],
    types.int8[::1],
    typeof(np.zeros(1, OUTCOME)),
    types.float32[:, ::1],
    types.int8[:, ::1],
)
"""The arrays of a step: those of the simulator, then record, actions, mode, outcome, image, valid."""

_arrays_at = arrays_at(ROUTE_STEP_ARRAYS)
_STATE = len(ARRAYS.types)


@part
def advance_to_route(state):
    """Run until a server must be named, or the run stops: every server admits all that it can, oldest first."""
    status = advance(state)
    while status == DECIDE:
        apply(state, state.params.num_bins, state.params.max_batch)
        status = advance(state)
    return status


def entry(sources: str) -> Callable:
    """The compiled entry; ``sources`` (parts.fingerprint) is a closure variable and so part of its cache key."""

    @entry_of(STEP_SIGNATURE)
    def route_lanes(words, scale, low, high):
        """Take lanes low, ..., high - 1 to the next request to be routed: SKIP, START (no answer yet) or STEP each.

        ``words``: `addresses` of ROUTE_STEP_ARRAYS.  ``actions`` (N, 2) int64, the server first; ``outcome`` (N,);
        ``image`` (N, size) float32; ``valid`` (N, servers) int8, the servers that can hold the prompt; ``record`` (1,)
        holds the record of the last lane; ``scale`` is T of the observation, s.
        """
        sources  # noqa: B018
        found = _arrays_at(words)
        arrays = Arrays(*found[:_STATE])
        record, actions, mode, outcome, image, valid = found[_STATE:]
        for i in range(low, high):
            if mode[i] == SKIP:
                continue
            state = lane_state(arrays, i)
            lane, counts = state.lane, state.counts
            holding, misses, tardiness, empty = counts.holding, counts.misses, counts.tardiness, counts.empty_choices
            if lane.router.last == NONE:
                misses = 0  # of requests that were rejected before the first one was routed
            began, status = lane.now, DECIDE
            if mode[i] == STEP and lane.router.asked != NONE:
                status = apply_route(state, actions[i, 0])
            if status == DECIDE:
                status = advance_to_route(state)
            write_route_record(state, record[0])
            write_route_observation(record[0], image[i], scale)
            for s in range(state.params.num_servers):
                valid[i, s] = record[0].fits[s]
            write_outcome(state, outcome[i], status, began, holding, misses, tardiness, empty)

    return route_lanes


route_lanes = entry(fingerprint())
