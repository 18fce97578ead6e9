"""Where an arriving request waits: in the shared bins, or in those of the server that it is sent to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS, NOWHERE, ROUTED, ROUTINGS, TO_ROUTE
from llmsched_env.core.layout import NONE
from llmsched_env.engines.continuous.memory import blocks_at
from llmsched_env.engines.continuous.segments import boundaries_by

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

ROUND_ROBIN, LEAST_OUTSTANDING, ASKED = (ROUTINGS.index(name) for name in ("round-robin", "least-outstanding", "asked"))


@part
def waiting_for(state: State, s):
    """Requests that wait for server ``s``."""
    return state.servers[s].waiting if state.params.groups > 1 else state.lane.waiting


@part
def group_of(params, s):
    """The set of bins of server ``s``."""
    return s if params.groups > 1 else 0


@part
def kv_load(state: State, s):
    """Tokens held on server ``s``, or asked for by its prompts and by those that wait for it, over its capacity."""
    server, eta = state.servers[s], state.hardware[s].eta
    blocks = blocks_at(state, s, boundaries_by(server, state.lane.now)) + server.set.prompt_blocks
    tokens = BLOCK_TOKENS * blocks + server.queued_tokens
    return tokens / eta if eta < math.inf else tokens


@part
def route(state: State, i):
    """Set the group of the arriving request ``i``: ROUTED, NOWHERE when it fits on no server, or TO_ROUTE."""
    params = state.params
    router, request = state.lane.router, state.requests[i]
    if params.groups == 1 or params.routing == ASKED:
        if request.prompt > params.max_eta:
            return NOWHERE
        return ROUTED if params.groups == 1 and params.routing != ASKED else TO_ROUTE
    best, least = NONE, math.inf
    for step in range(params.num_servers):
        s = (router.last + 1 + step) % params.num_servers if params.routing == ROUND_ROBIN else step
        server = state.servers[s]
        if request.prompt > state.hardware[s].eta:
            continue
        if params.routing == ROUND_ROBIN:
            load = 0.0
        elif params.routing == LEAST_OUTSTANDING:
            load = float(server.waiting + server.set.running)
        else:
            load = kv_load(state, s)
        if load < least:
            best, least = s, load
    if best == NONE:
        return NOWHERE
    request.group = router.last = best
    return ROUTED
