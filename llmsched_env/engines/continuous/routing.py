"""Where an arriving request waits: in the shared bins, or in those of the server that it is sent to."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.clock import fits_somewhere
from llmsched_env.core.constants import BLOCK_TOKENS, ROUTINGS
from llmsched_env.core.layout import NONE
from llmsched_env.engines.continuous.segments import blocks_after, boundaries_by

ROUND_ROBIN, LEAST_OUTSTANDING = ROUTINGS.index("round-robin"), ROUTINGS.index("least-outstanding")


@part
def kv_load(state, server):
    """Tokens held on ``server`` and asked for by the prompts that wait for it, over its capacity."""
    held = BLOCK_TOKENS * blocks_after(server, boundaries_by(server, state.lane.now)) + server.queued_tokens
    return held / server.eta if server.eta < math.inf else held


@part
def route(state, i):
    """Set the group of the arriving request ``i``; False when it fits nowhere."""
    lane, request = state.lane, state.requests[i]
    if lane.groups == 1:
        return fits_somewhere(state, i)
    best, least = NONE, math.inf
    for step in range(lane.num_servers):
        s = (lane.last_routed + 1 + step) % lane.num_servers if lane.routing == ROUND_ROBIN else step
        server = state.servers[s]
        if request.prompt + 1.0 > server.eta:
            continue
        if lane.routing == ROUND_ROBIN:
            load = 0.0
        elif lane.routing == LEAST_OUTSTANDING:
            load = float(server.waiting + server.running)
        else:
            load = kv_load(state, server)
        if load < least:
            best, least = s, load
    if best == NONE:
        return False
    request.group = lane.last_routed = best
    return True
