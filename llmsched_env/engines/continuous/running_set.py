"""The running set of a server in the engine `continuous`: who joins, who decodes, who leaves.

Decoding members are a heap by the iteration that gives their last token (State.slots); prefilling ones a list through
REQUEST.next in order of admission.
"""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.costs import charge, drop
from llmsched_env.core.itl import add_stall
from llmsched_env.core.layout import COMPLETED, IN_SERVICE, NONE, WAITING
from llmsched_env.core.queueing.heap import binary_heap
from llmsched_env.core.queueing.queues import any_row, push_preempted
from llmsched_env.engines.continuous.controllers import feed_completion
from llmsched_env.engines.continuous.segments import need


@part
def blocks_of(tokens):
    """Blocks that ``tokens`` take."""
    return float((tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS)


@part
def to_prefill(request):
    """Tokens of ``request`` that a stay begins with: its prompt and what it generated in earlier stays."""
    return request.prompt + request.generated


@part
def reservation(request, server):
    """Tokens that ``request`` reserves on ``server``."""
    return min(BLOCK_TOKENS * blocks_of(request.prompt + request.predicted), server.eta)


@part
def _before(slots, requests, a, b):
    return slots[a].finish < slots[b].finish or (
        slots[a].finish == slots[b].finish and slots[a].request < slots[b].request
    )


@part
def _swap(slots, a, b):
    request, finish = slots[a].request, slots[a].finish
    slots[a].request, slots[a].finish = slots[b].request, slots[b].finish
    slots[b].request, slots[b].finish = request, finish


_rise, _sink = binary_heap(_before, _swap)


@part
def join(state, s, i):
    """Request ``i`` becomes a member of server ``s``: its prompt is to be prefilled."""
    lane, server, request = state.lane, state.servers[s], state.requests[i]
    if server.running == 0:
        lane.free -= 1
    request.status = IN_SERVICE
    request.next, request.batch = NONE, s
    if math.isnan(request.dispatch):
        request.dispatch = lane.now
    if server.prefill_head == NONE:
        server.prefill_head, server.prefill_done = i, 0
    else:
        state.requests[server.prefill_tail].next = i
    server.prefill_tail = i
    server.prefilling += 1
    server.running += 1
    server.backlog += to_prefill(request)
    server.blocks += blocks_of(to_prefill(request) + 1)
    server.reserved += reservation(request, server)
    server.promised += request.predicted - request.generated
    lane.in_service += 1


@part
def begin_decoding(state, s, i):
    """Request ``i``, whose prefill is over and which lacks tokens, decodes from the next iteration on."""
    server, request = state.servers[s], state.requests[i]
    slots, at = state.slots[s], server.decoding
    context = to_prefill(request) + 1
    slots[at].request = i
    slots[at].finish = server.iteration + request.output - request.generated - 1
    server.decoding += 1
    _rise(slots, state.requests, at)
    server.scored += i >= state.lane.warmup
    server.context += context
    server.residue[(context - server.iteration) % BLOCK_TOKENS] += 1


@part
def _lacking(state, s, at):
    """Tokens that the decoding member at place ``at`` of server ``s`` lacks."""
    return state.slots[s][at].finish - state.servers[s].iteration


@part
def end_decoding(state, s, at):
    """Take the member at place ``at`` out of the decoding ones; return its number and the tokens of its stay."""
    server, slots = state.servers[s], state.slots[s]
    i, lacking = slots[at].request, _lacking(state, s, at)
    request = state.requests[i]
    server.decoding -= 1
    last = server.decoding
    if at < last:
        slots[at].request, slots[at].finish = slots[last].request, slots[last].finish
        _sink(slots, state.requests, at, last)
        _rise(slots, state.requests, at)
    context = request.prompt + request.output - lacking
    server.scored -= i >= state.lane.warmup
    server.context -= context
    server.residue[(context - server.iteration) % BLOCK_TOKENS] -= 1
    server.blocks -= blocks_of(context)
    return i, request.output - request.generated - lacking


@part
def end_prefilling(state, s, i):
    """Take request ``i`` out of the prefilling ones of server ``s``; its blocks stay held."""
    server, request = state.servers[s], state.requests[i]
    if server.prefill_head == i:
        server.backlog -= to_prefill(request) - server.prefill_done
        server.prefill_head, server.prefill_done = request.next, 0
        before = NONE
    else:
        server.backlog -= to_prefill(request)
        before = server.prefill_head
        while state.requests[before].next != i:
            before = state.requests[before].next
        state.requests[before].next = request.next
    if server.prefill_tail == i:
        server.prefill_tail = before
    server.prefilling -= 1


@part
def leave(state, s, i, tokens):
    """Request ``i``, neither decoding nor prefilling any more, leaves server ``s`` after ``tokens`` of this stay."""
    lane, server, request = state.lane, state.servers[s], state.requests[i]
    server.reserved -= reservation(request, server)
    server.promised -= request.predicted - request.generated - tokens
    server.running -= 1
    lane.in_service -= 1
    if server.running == 0:
        lane.free += 1
        server.reserved = server.promised = server.context = 0.0


@part
def complete(state, s, i, tokens):
    """Request ``i`` has its last token now, the ``tokens``-th of its stay."""
    lane, server, request = state.lane, state.servers[s], state.requests[i]
    server.last_size = server.running
    server.last_kv_share = server.blocks / server.capacity
    leave(state, s, i, tokens)
    request.last_token = request.completion = lane.now
    request.status = COMPLETED
    lane.completed += 1
    lane.events += 1
    server.batches += 1
    server.last_service = lane.now - request.dispatch
    server.last_e2e = lane.now - request.arrival
    if lane.track:
        if request.missed:
            lane.past_deadline -= 1
        elif request.output > 1:
            tpot = state.slos[request.slo_class].tpot
            if request.last_token - request.first_token > tpot * (request.output - 1):
                charge(state, request)
        lane.met += not request.missed
    length = float(request.prompt + request.output)
    feed_completion(lane, state.bins[request.bin], length, request.output)
    feed_completion(lane, state.bins[any_row(lane)], length, request.output)


@part
def put_back(state, s, i, tokens):
    """Preempted request ``i`` returns to its bin after ``tokens`` of this stay."""
    lane, request = state.lane, state.requests[i]
    if tokens > 0:
        request.last_token = max(request.last_token, state.servers[s].last_step)
    request.generated += tokens
    request.predicted = max(request.predicted, request.generated + 1)
    request.status = WAITING
    request.preemptions += 1
    lane.preempted += 1
    lane.events += 1
    push_preempted(state, i)


@part
def newest(state, s):
    """Member of server ``s`` of largest number: its place among the decoding ones (NONE: it prefills), and it."""
    server, slots = state.servers[s], state.slots[s]
    at, best = NONE, NONE
    for place in range(server.decoding):
        if slots[place].request > best:
            at, best = place, slots[place].request
    i = server.prefill_head
    while i != NONE:
        if i > best:
            at, best = NONE, i
        i = state.requests[i].next
    return at, best


@part
def remove(state, s, at, i):
    """Take member ``i`` (at place ``at``, NONE: prefilling) off server ``s``; return the tokens of its stay."""
    tokens = 0
    if at == NONE:
        end_prefilling(state, s, i)
        state.servers[s].blocks -= blocks_of(to_prefill(state.requests[i]) + 1)
    else:
        _, tokens = end_decoding(state, s, at)
    leave(state, s, i, tokens)
    return tokens


@part
def make_room(state, s):
    """Preempt the newest members of server ``s`` until the others fit after one more token; whether anyone left."""
    server = state.servers[s]
    left = False
    while need(server) > server.capacity:
        alone = server.running == 1
        at, i = newest(state, s)
        tokens = remove(state, s, at, i)
        if alone:
            drop(state, i)
            state.lane.events += 1
        else:
            put_back(state, s, i, tokens)
        left = True
    return left


@part
def finish_prefill(state, s, i):
    """The prefill of request ``i`` ends now: it has its first token of this stay, and decodes or is complete."""
    lane, request = state.lane, state.requests[i]
    end_prefilling(state, s, i)
    if math.isnan(request.first_token):
        request.first_token = lane.now
    else:
        add_stall(state, i, lane.now - request.last_token)
    request.last_token = lane.now  # so far
    state.servers[s].promised -= 1
    if request.output - request.generated > 1:
        begin_decoding(state, s, i)
        return
    state.servers[s].blocks -= blocks_of(to_prefill(request) + 1)
    complete(state, s, i, 1)
