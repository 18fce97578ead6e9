"""Asynchronous scheduling: an iteration is composed when the one before it begins (docs/reference/continuous.md, 10).

So at a boundary the scheduler knows what arrived before the iteration that ends there began, and members that complete
there keep their seats and blocks until the decisions of the instant are made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.layout import NONE, WAITING
from llmsched_env.core.queueing.sessions import next_arrival_s
from llmsched_env.engines.continuous.cache.stays import end_stay, name_blocks
from llmsched_env.engines.continuous.memory import blocks_of
from llmsched_env.engines.continuous.routing.rules import waiting_for
from llmsched_env.engines.continuous.segments import boundary_s

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def note_composition(params, server, k):
    """Server stands at the ``k``-th boundary of its segment: what follows was composed one boundary earlier."""
    if params.ahead:
        server.set.composed, server.set.known = 1, boundary_s(server, k - 1.0)


@part
def release(state: State, s):
    """The composition of this instant is made, or is empty: from now on everything up to now is known."""
    server = state.servers[s]
    if state.params.cached and server.set.leaving > 0:
        _give_blocks_back(state, s)
    server.set.composed = server.set.quiet = server.set.leaving = 0
    server.set.leaving_blocks = 0.0


@part
def _give_blocks_back(state: State, s):
    """What completes now gives its blocks back, in the order in which it completed."""
    server, first, i = state.servers[s], NONE, state.servers[s].set.leaving_head
    while i != NONE:  # the list begins with the last
        following = state.requests[i].next
        state.requests[i].next = first
        first, i = i, following
    while first != NONE:
        request = state.requests[first]
        name_blocks(state, s, first, (request.prompt + request.output - 1) // BLOCK_TOKENS)
        end_stay(state, s, first)
        first = request.next
    server.set.leaving_head = NONE


@apart
def _known_waits(state: State, s, boundary):
    """Whether a request waits for server ``s`` as far as its composition knows; ``boundary``: or comes now."""
    lane, server = state.lane, state.servers[s]
    number = waiting_for(state, s)
    if not server.set.composed:
        return number > 0 or boundary and next_arrival_s(state, lane.now) <= lane.now
    i = lane.next_arrival - 1
    while number > 0 and i >= 0 and state.requests[i].arrival > server.set.known:
        here = state.params.groups == 1 or state.requests[i].group == s
        number -= here and state.requests[i].status == WAITING
        i -= 1
    return number > 0


@apart
def limit_chunks(state: State, s, boundary):
    """Set the largest chunk of the iteration that server ``s`` composes: a request that is alone has no limit.

    ``boundary``: the server events of this instant are being looked at, its arrivals are still to come.
    """
    server = state.servers[s]
    if state.params.max_chunk == math.inf:
        return
    members = server.set.running + server.set.leaving
    if boundary:
        alone = members <= 1 and not _known_waits(state, s, True)
    else:  # a request that waits is about to be admitted
        alone = members == 0 and waiting_for(state, s) == 1
    server.set.most = math.inf if alone else state.params.max_chunk


@part
def held_blocks(request):
    """Blocks of a request that is complete: its last token never had a slot."""
    return blocks_of(request.prompt + request.output - 1)


@part
def keep_seat(state: State, s, i):
    """Request ``i``, which completes now, keeps its seat and its blocks on server ``s`` for this composition."""
    server, request = state.servers[s], state.requests[i]
    request.next = server.set.leaving_head if server.set.leaving > 0 else NONE
    server.set.leaving_head = i
    server.set.leaving += 1
    if not state.params.cached:
        server.set.leaving_blocks += held_blocks(request)


@part
def newest_leaving(state: State, server):
    """The largest number among those that complete now, or NONE."""
    best = NONE
    i = server.set.leaving_head if server.set.leaving > 0 else NONE
    while i != NONE:
        best = max(best, i)
        i = state.requests[i].next
    return best


@part
def give_up_seat(state: State, s, i):
    """Request ``i``, which completes now, is preempted by the composition: it is complete all the same."""
    server, request = state.servers[s], state.requests[i]
    if server.set.leaving_head == i:
        server.set.leaving_head = request.next
    else:
        before = server.set.leaving_head
        while state.requests[before].next != i:
            before = state.requests[before].next
        state.requests[before].next = request.next
    server.set.leaving -= 1
    if state.params.cached:
        end_stay(state, s, i)
    else:
        server.set.leaving_blocks -= held_blocks(request)
    request.preemptions += 1
    state.counts.preempted += 1


@part
def is_known(server, request):
    """Whether ``request`` had arrived when the iteration was composed."""
    return server.set.composed == 0 or request.arrival <= server.set.known
