"""The compiled run under a routing policy; compiled, or read from disk, when this file is first imported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import typeof, types

from llmsched_env.compiler.parts import entry_of, fingerprint
from llmsched_env.core.layout import DECIDE, ROUTE, ROUTE_RECORD
from llmsched_env.core.run import RUN_SIGNATURE, run_loop
from llmsched_env.core.state import lane_state
from llmsched_env.core.view.route import ROUTE_TYPE
from llmsched_env.engines.continuous.events import advance, apply
from llmsched_env.engines.continuous.record import write_record
from llmsched_env.engines.continuous.routing.asked import apply_route, write_route_record

_loop = run_loop(advance_of=advance, apply_of=apply, write_record_of=write_record)

_ROUTE_ROW = typeof(np.zeros(1, ROUTE_RECORD))

ROUTED_SIGNATURE = RUN_SIGNATURE.return_type(
    *RUN_SIGNATURE.args[:-1],
    *(_ROUTE_ROW, ROUTE_TYPE, types.float64[::1], types.float64[::1], RUN_SIGNATURE.args[5]),
    RUN_SIGNATURE.args[-1],
)
"""As RUN_SIGNATURE; before the limit the row of ROUTE_RECORD, and the routing policy with its params, memory, rng."""


def entry(sources: str) -> Callable:
    """The compiled entry; ``sources`` (parts.fingerprint) is a closure variable and so part of its cache key."""

    @entry_of(ROUTED_SIGNATURE)
    def run_routed_lane(
        arrays, record, decide, params, memory, rng, details, row, route, route_params, route_memory, route_rng, limit
    ):
        """Lane 0 as core.run.run_loop describes it; at ROUTE the routing policy is asked, at most ``limit`` times.

        BAD_SERVER comes with the answer that was refused in the place of the choice.
        """
        sources  # noqa: B018
        state = lane_state(arrays, 0)
        for _ in range(limit):
            status, choice, size = _loop(state, record[0], decide, params, memory, rng, details, limit)
            if status != ROUTE:
                return status, choice, size
            write_route_record(state, row[0])
            server = route(row[0], route_params, route_memory, route_rng)
            status = apply_route(state, server)
            if status != DECIDE:
                return status, server, size
        return DECIDE, choice, size

    return run_routed_lane


run_routed_lane = entry(fingerprint())
