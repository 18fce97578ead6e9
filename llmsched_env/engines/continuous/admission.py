"""Who may become a member of a running set (engine `continuous`; docs/reference/continuous.md)."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import NONE
from llmsched_env.core.queueing.queues import head, next_row, pop, would_mix
from llmsched_env.engines.continuous.iterations import cut
from llmsched_env.engines.continuous.running_set import blocks_of, join, put_back, remove, reservation, to_prefill
from llmsched_env.engines.continuous.segments import blocks_after

ADMITTED, NO_ROOM, NEVER, LATER = range(4)


@part
def has_slot(lane, server):
    """Whether ``server`` may take one more member, memory aside."""
    if server.running >= lane.max_batch and not lane.preemptive:
        return False
    return bool(lane.prefill_first) or server.backlog < lane.token_budget - server.decoding


@part
def waiting_for(state, s):
    """Requests that wait for server ``s``."""
    return state.servers[s].waiting if state.lane.groups > 1 else state.lane.waiting


@part
def group_of(lane, s):
    """The set of bins of server ``s``."""
    return s if lane.groups > 1 else 0


@part
def verdict(state, s, i, size):
    """Whether request ``i`` may join server ``s``: ADMITTED, NO_ROOM (members are in the way), NEVER here, or LATER."""
    lane, server, request = state.lane, state.servers[s], state.requests[i]
    tokens = to_prefill(request)
    if tokens + 1 > server.eta:
        return NEVER
    if lane.prefill_first:
        if server.prefilling > 0 and server.backlog + tokens > lane.token_budget:
            return LATER
    elif server.backlog >= lane.token_budget - server.decoding:
        return LATER
    if server.running >= size:
        return NO_ROOM
    if server.capacity == math.inf:
        return ADMITTED
    room = server.capacity - blocks_after(server, server.boundary + 1) - blocks_of(tokens + 1)
    if lane.by_prompt:
        if server.running > 0:
            room -= math.ceil(lane.watermark * server.capacity)
    elif server.reserved + reservation(request, server) > server.eta:
        return NO_ROOM
    return ADMITTED if room >= 0.0 else NO_ROOM


@part
def preempt_longest(state, s, i):
    """Preempt the member that lacks most tokens, if it lacks more than request ``i``; whether one was."""
    server, slots = state.servers[s], state.slots[s]
    lacking = state.requests[i].output - state.requests[i].generated
    at, longest = NONE, NONE
    for place in range(server.decoding):
        j = slots[place].request
        least = slots[place].finish - server.iteration - server.boundary
        if least > lacking or (longest != NONE and least == lacking and j > longest):
            at, longest, lacking = place, j, least
    j = server.prefill_head
    while j != NONE:
        least = state.requests[j].output - state.requests[j].generated
        if least > lacking or (longest != NONE and least == lacking and j > longest):
            at, longest, lacking = NONE, j, least
        j = state.requests[j].next
    if longest == NONE:
        return False
    cut(state, s)
    state.lane.tick_spent, state.lane.woken = 0, 1  # an event for the servers whose turn is still to come
    put_back(state, s, longest, remove(state, s, at, longest))
    return True


@part
def admit(state, s, choice, size):
    """Admit requests of ``choice`` to server ``s`` up to ``size`` members; return how many."""
    lane = state.lane
    n, i0 = 0, NONE
    while waiting_for(state, s) > 0:
        k = next_row(state, choice, group_of(lane, s))
        i = head(state, k)
        if i == NONE or would_mix(state, i, n, i0):
            break
        found = verdict(state, s, i, size)
        if found != ADMITTED:
            if found == NO_ROOM and lane.preemptive and preempt_longest(state, s, i):
                continue
            break
        cut(state, s)
        pop(state, k)
        join(state, s, i)
        i0 = i if n == 0 else i0
        n += 1
    return n
