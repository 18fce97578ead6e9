"""Which request may become a member of a running set (engine `continuous`; docs/reference/continuous.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import NONE
from llmsched_env.core.queueing.queues import head, next_row, pop, would_mix
from llmsched_env.engines.continuous.ahead import is_known, limit_chunks
from llmsched_env.engines.continuous.cache.decoding import want_name
from llmsched_env.engines.continuous.cache.stays import look_up, start_of
from llmsched_env.engines.continuous.iterations import cut
from llmsched_env.engines.continuous.memory import blocks_of, first_end, need, prompts_ask, to_prefill
from llmsched_env.engines.continuous.routing.rules import group_of, waiting_for
from llmsched_env.engines.continuous.running_set import join, put_back, remove, reservation

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

ADMITTED, NO_ROOM, NEVER, LATER = range(4)


@part
def has_slot(state: State, server):
    """Whether ``server`` may take one more member, memory aside."""
    params, members = state.params, server.set
    if members.quiet or members.running + members.leaving >= params.max_batch and not params.preemptive:
        return False
    return bool(params.prefill_first) or prompts_ask(state, server) < params.token_budget - server.set.decoding


@part
def budget_allows(state: State, s, i, tokens):
    """Whether the prompts of server ``s`` leave the token budget for request ``i`` with ``tokens`` to prefill (A5)."""
    params, server = state.params, state.servers[s]
    if not (params.prefill_first or params.whole):
        return prompts_ask(state, server) < params.token_budget - server.set.decoding
    if params.cached:
        look_up(state, s, i, tokens)
    left = min(float(tokens - start_of(state, i)), server.set.most)
    if params.prefill_first:
        return server.set.prefilling == 0 or server.set.backlog + left <= params.token_budget
    if server.set.running == 0:
        return True
    return prompts_ask(state, server) + left <= params.token_budget - server.set.decoding


@part
def verdict(state: State, s, i, size):
    """Whether request ``i`` may join server ``s``: ADMITTED, NO_ROOM (members are in the way), NEVER here, or LATER."""
    params = state.params
    server, hardware, request = state.servers[s], state.hardware[s], state.requests[i]
    tokens = to_prefill(request)
    if tokens > hardware.eta:
        return NEVER
    if not budget_allows(state, s, i, tokens):
        return LATER
    if server.set.running + server.set.leaving >= size:
        return NO_ROOM
    if hardware.capacity == math.inf:
        return ADMITTED
    room = hardware.capacity - need(state, s) - server.set.leaving_blocks
    if params.cached:
        room -= look_up(state, s, i, tokens)
        room += state.chains[i].found
    room -= blocks_of(first_end(state, server, i) if params.by_chunk else tokens)
    if params.by_prompt:
        if server.set.running + server.set.leaving > 0:
            room -= math.floor(params.watermark * (hardware.capacity + 1.0))
    elif server.reserved + reservation(request, hardware.eta) > hardware.eta:
        return NO_ROOM
    if room >= 0.0:
        return ADMITTED
    if params.cached:
        want_name(state, s, i, tokens)
    return NO_ROOM


@part
def preempt_longest(state: State, s, i):
    """Preempt the member that lacks most tokens, if it lacks more than request ``i``; whether one was."""
    server, slots = state.servers[s], state.slots[s]
    lacking = state.requests[i].output - state.requests[i].generated
    at, longest = NONE, NONE
    for place in range(server.set.decoding):
        j = slots[place].request
        least = slots[place].finish - server.set.iteration - server.set.boundary
        if least > lacking or (longest != NONE and least == lacking and j > longest):
            at, longest, lacking = place, j, least
    j = server.set.prefill_head
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
def admit(state: State, s, choice, size):
    """Admit requests of ``choice`` to server ``s`` up to ``size`` members; return how many."""
    n, i0 = 0, NONE
    if state.servers[s].set.prefilling == 0:
        limit_chunks(state, s, False)
    while waiting_for(state, s) > 0:
        k = next_row(state, choice, group_of(state.params, s))
        i = head(state, k)
        if i == NONE or would_mix(state, i, n, i0) or not is_known(state.servers[s], state.requests[i]):
            break
        found = verdict(state, s, i, size)
        if found != ADMITTED:
            if found == NO_ROOM and state.params.preemptive and preempt_longest(state, s, i):
                continue
            break
        cut(state, s)
        pop(state, k)
        join(state, s, i)
        i0 = i if n == 0 else i0
        n += 1
    return n
