"""Engine `batch`: what happens to a running batch, and what a decision does."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.clock import clock, fits_somewhere, understood
from llmsched_env.core.costs import drop
from llmsched_env.core.layout import DECIDE, NONE, WAITING
from llmsched_env.core.queueing.queues import push_returned
from llmsched_env.engines.batch.controllers import feed
from llmsched_env.engines.batch.execution import launch


@part
def evict(state, server):
    """The next member to leave the batch of ``server`` goes back to its bin."""
    i = server.evict_head
    server.evict_head = state.requests[i].next
    state.requests[i].status = WAITING
    state.requests[i].evictions += 1
    state.lane.in_service -= 1
    state.lane.evicted += 1
    push_returned(state, i)
    server.next_event = server.end if server.evict_head == NONE else state.requests[server.evict_head].last_token


@part
def complete(state, server):
    """The batch of ``server`` ends: its members are released, the controllers learn of it."""
    lane = state.lane
    lane.completed += server.completing
    lane.in_service -= server.completing
    if lane.track:
        lane.late_now -= server.late
        lane.met += server.completing - server.late - server.tpot_misses
    lane.misses += server.tpot_misses
    if server.drop != NONE:
        drop(state, server.drop)
        lane.in_service -= 1
    feed(lane, state.bins[lane.num_bins], server)
    if server.choice < lane.num_bins:
        feed(lane, state.bins[server.choice], server)
    server.busy_s += server.end - server.start
    server.peak_ever = max(server.peak_ever, server.peak)
    server.batches += 1
    server.last_size = server.launched
    server.last_service = server.end - server.start
    server.last_e2e = server.worst_e2e
    server.last_kv_share = server.peak / server.eta
    server.end = server.next_event = server.predicted_end = math.inf
    server.reserved = 0.0
    server.batch = NONE
    lane.free += 1


@part
def server_event(state, s):
    """The next eviction or the completion of the batch of server ``s``."""
    server = state.servers[s]
    if server.evict_head != NONE:
        evict(state, server)
    else:
        complete(state, server)
    return True


@part
def may_ask(state, s):
    """Whether server ``s`` is free."""
    return state.servers[s].end == math.inf


@part
def do_nothing(state):
    """Batches go on by themselves."""


@part
def all_are_busy(state):
    """Whether no server is free: who arrives has to wait for the next server event."""
    return state.lane.free == 0


advance = clock(
    route=fits_somewhere,
    server_event=server_event,
    may_ask=may_ask,
    start_servers=do_nothing,
    arrivals_change_nothing=all_are_busy,
    cut_off=do_nothing,
)


@part
def apply(state, choice, size):
    """Carry out the pending decision; return DECIDE, or BAD_BIN / BAD_SIZE with nothing done."""
    lane = state.lane
    status, choice, size, waits = understood(state, choice, size, 0)
    if status != DECIDE:
        return status
    if waits:
        lane.turn = lane.num_servers
        return DECIDE
    late = state.bins[lane.num_bins - 1].length
    launched = launch(state, lane.asked, choice, size)
    passed_over = lane.triage > 0.0 and state.bins[lane.num_bins - 1].length > late
    if launched > 0 or not passed_over:  # else all were passed over, and the server is asked again
        lane.turn = lane.asked + 1
    return DECIDE
