"""Engine `batch`: what happens to a running batch, and what a decision does."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.clock import clock, fits_somewhere, read_answer
from llmsched_env.core.costs import drop
from llmsched_env.core.layout import DECIDE, NONE, WAITING
from llmsched_env.core.queueing.queues import any_row, controller_row, overdue_row, push_preempted
from llmsched_env.engines.batch.controllers import feed
from llmsched_env.engines.batch.execution import launch


@part
def preempt(state, server):
    """The next member to leave the batch of ``server`` goes back to its bin."""
    i = server.preempted_head
    server.preempted_head = state.requests[i].next
    state.requests[i].status = WAITING
    state.requests[i].preemptions += 1
    state.lane.in_service -= 1
    state.lane.preempted += 1
    push_preempted(state, i)
    server.next_event = (
        server.end if server.preempted_head == NONE else state.requests[server.preempted_head].last_token
    )


@part
def complete(state, server):
    """The batch of ``server`` ends: its members are released, the controllers learn of it."""
    lane = state.lane
    lane.completed += server.completing
    lane.in_service -= server.completing
    if lane.track:
        lane.past_deadline -= server.deadline_misses
        lane.met += server.completing - server.deadline_misses - server.tpot_misses
    lane.misses += server.tpot_misses
    if server.drop != NONE:
        drop(state, server.drop)
        lane.in_service -= 1
    feed(lane, state.bins[any_row(lane)], server)
    if server.choice != lane.num_bins:
        feed(lane, state.bins[controller_row(lane, server.choice)], server)
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
    """The next preemption or the completion of the batch of server ``s``."""
    server = state.servers[s]
    if server.preempted_head != NONE:
        preempt(state, server)
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
    status, choice, size, waits = read_answer(state, choice, size, 0)
    if status != DECIDE:
        return status
    if waits:
        lane.turn = lane.num_servers
        return DECIDE
    overdue = state.bins[overdue_row(lane, 0)].length  # of the row of `any` where there is no such queue: 0
    launched = launch(state, lane.asked, choice, size)
    moved = state.bins[overdue_row(lane, 0)].length > overdue
    if launched > 0 or not (lane.overdue_batch_factor > 0.0 and moved):  # else all became overdue: it is asked again
        lane.turn = lane.asked + 1
    return DECIDE
