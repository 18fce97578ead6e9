"""The running set of a server in the engine `continuous`: which requests join, decode and leave.

Decoding members are a heap by the iteration that gives their last token (State.slots); prefilling ones a list through
REQUEST.next in order of admission.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.costs import charge, drop
from llmsched_env.core.itl import add_stall
from llmsched_env.core.layout import (
    COMPLETED,
    IN_SERVICE,
    LAST_CLASS,
    LEAST_COMPUTED,
    NEWEST,
    NONE,
    RESIDUAL,
    WAITING,
)
from llmsched_env.core.queueing.heap import binary_heap
from llmsched_env.core.queueing.queues import any_row, push_preempted
from llmsched_env.core.queueing.sessions import ends_now
from llmsched_env.engines.continuous.ahead import give_up_seat, keep_seat, newest_leaving
from llmsched_env.engines.continuous.cache.decoding import enter_list, leave_list
from llmsched_env.engines.continuous.cache.pool import in_use
from llmsched_env.engines.continuous.cache.stays import (
    begin_stay,
    end_stay,
    hold,
    list_own_names,
    name_blocks,
    start_of,
)
from llmsched_env.engines.continuous.controllers import feed_completion
from llmsched_env.engines.continuous.fresh import forget_fresh
from llmsched_env.engines.continuous.memory import blocks_of, change_residue, first_end, need, to_prefill

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def reservation(request, eta):
    """Tokens that ``request`` reserves in a memory of ``eta`` tokens."""
    return min(BLOCK_TOKENS * blocks_of(request.prompt + request.predicted), eta)


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
def _take_first_chunk(state: State, s, i, end):
    """Request ``i``, which joins server ``s``, refers to what it found; takes and names blocks up to ``end``."""
    server = state.servers[s]
    begin_stay(state, s, i, to_prefill(state.requests[i]))
    hold(state, s, i, int(blocks_of(end)))
    name_blocks(state, s, i, end // BLOCK_TOKENS)
    server.set.prompt_blocks -= blocks_of(end)


@part
def join(state: State, s, i):
    """Request ``i`` becomes a member of server ``s``: its prompt is to be prefilled."""
    lane, server, request = state.lane, state.servers[s], state.requests[i]
    if server.set.running == 0:
        lane.free -= 1
    request.status = IN_SERVICE
    end = first_end(state, server, i) if state.params.cached else 0
    request.next, request.server, request.prefilled = NONE, s, start_of(state, i)
    if math.isnan(request.dispatch):
        request.dispatch = lane.now
    if server.set.prefill_head == NONE:
        server.set.prefill_head = i
    else:
        state.requests[server.set.prefill_tail].next = i
    server.set.prefill_tail = i
    server.set.prefilling += 1
    server.set.running += 1
    server.set.prompt_blocks += blocks_of(to_prefill(request))
    if state.params.cached:
        _take_first_chunk(state, s, i, end)
    server.set.backlog += to_prefill(request) - request.prefilled
    server.reserved += reservation(request, state.hardware[s].eta)
    server.set.promised += request.predicted - request.generated
    lane.in_service += 1


@part
def begin_decoding(state: State, s, i):
    """Request ``i``, whose prefill is over and which lacks tokens, decodes from the next iteration on."""
    server, request = state.servers[s], state.requests[i]
    slots, at = state.slots[s], server.set.decoding
    context = to_prefill(request) + 1
    slots[at].request = i
    slots[at].finish = server.set.iteration + request.output - request.generated - 1
    server.set.decoding += 1
    _rise(slots, state.requests, at)
    server.set.scored += i >= state.lane.warmup
    server.set.context += context
    change_residue(server, context, 1)
    if state.params.cached:
        enter_list(state, s, i, context - server.set.iteration)
    if state.params.prefill_first:
        request.next, server.set.fresh = server.set.fresh, i


@part
def _lacking(state: State, s, at):
    """Tokens that the decoding member at place ``at`` of server ``s`` lacks."""
    return state.slots[s][at].finish - state.servers[s].set.iteration


@part
def end_decoding(state: State, s, at):
    """Take the member at place ``at`` out of the decoding ones; return its number and the tokens of its stay."""
    server, slots = state.servers[s], state.slots[s]
    i, lacking = slots[at].request, _lacking(state, s, at)
    request = state.requests[i]
    if server.set.fresh != NONE and request.last_token > server.set.last_step:
        forget_fresh(state, server, i)
    server.set.decoding -= 1
    last = server.set.decoding
    if at < last:
        slots[at].request, slots[at].finish = slots[last].request, slots[last].finish
        _sink(slots, state.requests, at, last)
        _rise(slots, state.requests, at)
    context = request.prompt + request.output - lacking
    server.set.scored -= i >= state.lane.warmup
    server.set.context -= context
    change_residue(server, context, -1)
    if state.params.cached:
        leave_list(state, s, i)
    else:
        server.set.blocks -= blocks_of(context - 1)
    return i, request.output - request.generated - lacking


@part
def end_prefilling(state: State, s, i):
    """Take request ``i`` out of the prefilling ones of server ``s``; return the blocks of its chunks so far."""
    server, request = state.servers[s], state.requests[i]
    server.set.backlog -= to_prefill(request) - request.prefilled
    before = NONE
    if server.set.prefill_head == i:
        server.set.prefill_head = request.next
    else:
        before = server.set.prefill_head
        while state.requests[before].next != i:
            before = state.requests[before].next
        state.requests[before].next = request.next
    if server.set.prefill_tail == i:
        server.set.prefill_tail = before
    server.set.prefilling -= 1
    return blocks_of(request.prefilled)


@part
def leave(state: State, s, i, tokens):
    """Request ``i``, neither decoding nor prefilling any more, leaves server ``s`` after ``tokens`` of this stay."""
    lane, server, request = state.lane, state.servers[s], state.requests[i]
    server.reserved -= reservation(request, state.hardware[s].eta)
    server.set.promised -= request.predicted - request.generated - tokens
    server.set.running -= 1
    lane.in_service -= 1
    if server.set.running == 0:
        lane.free += 1
        server.reserved = server.set.promised = server.set.context = 0.0


@part
def note_completion(state: State, s, i, now):
    """Request ``i`` of server ``s`` has its last token at ``now``: its stamps, and what controllers learn from it."""
    params = state.params
    server, request = state.servers[s], state.requests[i]
    request.last_token = request.completion = now
    request.status = COMPLETED
    ends_now(state, i)
    state.counts.completed += 1
    server.batches += 1
    server.last_service = now - request.dispatch
    server.last_e2e = now - request.arrival
    length = float(request.prompt + request.output)
    feed_completion(params, state.bins[request.bin], length, request.output)
    feed_completion(params, state.bins[any_row(params)], length, request.output)


@part
def complete(state: State, s, i, tokens):
    """Request ``i`` has its last token now, the ``tokens``-th of its stay."""
    params = state.params
    lane, server, request = state.lane, state.servers[s], state.requests[i]
    server.last_size = server.set.running
    if params.cached and not params.ahead:
        end_stay(state, s, i)
        server.set.blocks = in_use(state.pools[s])
    server.last_kv_share = server.set.blocks / state.hardware[s].capacity
    leave(state, s, i, tokens)
    note_completion(state, s, i, lane.now)
    lane.events += 1
    if params.track:
        if request.missed:
            lane.past_deadline -= 1
        elif request.output > 1:
            tpot = state.slos[request.slo_class].tpot
            if request.last_token - request.first_token > tpot * (request.output - 1):
                charge(state, request)
        state.counts.met += not request.missed
    if params.ahead:
        keep_seat(state, s, i)


@part
def return_to_bin(state: State, i, generated):
    """Request ``i`` is preempted with ``generated`` tokens in all, and waits again."""
    request = state.requests[i]
    lacking = request.predicted - request.generated
    request.generated = generated
    request.predicted = max(request.predicted, generated + 1)
    if state.params.ordered == RESIDUAL:
        request.key += request.predicted - generated - lacking
    request.status = WAITING
    request.preemptions += 1
    state.counts.preempted += 1
    push_preempted(state, i)


@part
def put_back(state: State, s, i, tokens):
    """Preempted request ``i`` returns to its bin after ``tokens`` of this stay."""
    lane, request = state.lane, state.requests[i]
    if tokens > 0:
        request.last_token = max(request.last_token, state.servers[s].set.last_step)
    lane.events += 1
    lane.event_time = lane.now
    return_to_bin(state, i, request.generated + tokens)


@part
def newest(state: State, s):
    """Member of server ``s`` of largest number: its place among the decoding ones (NONE: it prefills), and it."""
    server, slots = state.servers[s], state.slots[s]
    at, best = NONE, NONE
    for place in range(server.set.decoding):
        if slots[place].request > best:
            at, best = place, slots[place].request
    i = server.set.prefill_head
    while i != NONE:
        if i > best:
            at, best = NONE, i
        i = state.requests[i].next
    return at, best


@part
def _rather(state: State, i, computed, j, computed_j):
    """Whether member ``i`` with ``computed`` tokens is preempted rather than ``j`` with ``computed_j``."""
    if state.params.victim == LAST_CLASS and state.requests[i].slo_class != state.requests[j].slo_class:
        return state.requests[i].slo_class > state.requests[j].slo_class
    if state.params.victim == LEAST_COMPUTED and computed != computed_j:
        return computed < computed_j
    return i > j


@part
def _computed(state: State, s, at, i):
    """Tokens of member ``i`` that are computed: it decodes at place ``at``, or prefills (NONE)."""
    request = state.requests[i]
    return request.prefilled if at == NONE else request.prompt + request.output - _lacking(state, s, at)


@apart
def victim_by_rule(state: State, s):
    """As `newest`, by the rule PARAMS.victim: its place, it, and its tokens that are computed."""
    server, slots = state.servers[s], state.slots[s]
    at, best, least = NONE, NONE, 0
    for place in range(server.set.decoding):
        i = slots[place].request
        computed = _computed(state, s, place, i)
        if best == NONE or _rather(state, i, computed, best, least):
            at, best, least = place, i, computed
    i = server.set.prefill_head
    while i != NONE:
        computed = _computed(state, s, NONE, i)
        if best == NONE or _rather(state, i, computed, best, least):
            at, best, least = NONE, i, computed
        i = state.requests[i].next
    return at, best, least


@apart
def leaves_instead(state: State, server, i, computed):
    """Of those that complete now the one that is preempted rather than member ``i`` (NONE: any of them), or NONE."""
    if state.params.victim == NEWEST:
        number = newest_leaving(state, server)
        return number if number > i else NONE
    best, least = i, computed
    j = server.set.leaving_head if server.set.leaving > 0 else NONE
    while j != NONE:
        own = state.requests[j].prompt + state.requests[j].output - 1
        if best == NONE or _rather(state, j, own, best, least):
            best, least = j, own
        j = state.requests[j].next
    return best if best != i else NONE


@part
def remove(state: State, s, at, i):
    """Take member ``i`` (at place ``at``, NONE: prefilling) off server ``s``; return the tokens of its stay."""
    server, tokens = state.servers[s], 0
    if at == NONE:
        held = end_prefilling(state, s, i)
        if state.params.cached:
            held = float(state.chains[i].held)
        else:
            server.set.blocks -= held
        server.set.prompt_blocks -= blocks_of(to_prefill(state.requests[i])) - held
    else:
        _, tokens = end_decoding(state, s, at)
    if state.params.cached:
        list_own_names(state, s, i)
        end_stay(state, s, i)
    leave(state, s, i, tokens)
    return tokens


@apart
def newest_leaves(state: State, s):
    """Preempt the newest member of server ``s``, or that of PARAMS.victim; drop it where it is alone; its number."""
    server = state.servers[s]
    alone = server.set.running + server.set.leaving == 1
    if state.params.victim == NEWEST:
        at, i = newest(state, s)
        computed = 0
    else:
        at, i, computed = victim_by_rule(state, s)
    complete_now = leaves_instead(state, server, i, computed)
    if complete_now != NONE:
        give_up_seat(state, s, complete_now)
        return complete_now
    tokens = remove(state, s, at, i)
    if alone:
        drop(state, i)
        state.lane.events += 1
    else:
        put_back(state, s, i, tokens)
    return i


@part
def make_room(state: State, s):
    """Preempt the newest members of server ``s`` until the next iteration of the others fits."""
    server = state.servers[s]
    left = False
    while need(state, s) + server.set.leaving_blocks > state.hardware[s].capacity:
        newest_leaves(state, s)
        left = True
    params = state.params
    strict = params.by_chunk or params.ordered or params.victim != NEWEST
    server.set.quiet = left and (params.ahead or strict and server.set.running > 0)


@part
def finish_prefill(state: State, s, i):
    """The prefill of request ``i`` ends now: it has its first token of this stay, and decodes or is complete."""
    lane, request = state.lane, state.requests[i]
    end_prefilling(state, s, i)
    if math.isnan(request.first_token):
        request.first_token = lane.now
    else:
        add_stall(state, i, lane.now - request.last_token)
    request.last_token = lane.now  # so far
    state.servers[s].set.promised -= 1
    if request.output - request.generated > 1:
        begin_decoding(state, s, i)
        return
    if not state.params.cached:
        state.servers[s].set.blocks -= blocks_of(to_prefill(request))
    complete(state, s, i, 1)
