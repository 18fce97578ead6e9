"""Engine `batch`: what happens to a running batch, and what a decision does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.clock import clock, fits_somewhere, read_answer
from llmsched_env.core.costs import drop
from llmsched_env.core.layout import DECIDE, NONE, WAITING
from llmsched_env.core.queueing.leaving import note_refusal, refuse_first
from llmsched_env.core.queueing.queues import any_row, controller_row, overdue_row, push_preempted
from llmsched_env.engines.batch.controllers import feed
from llmsched_env.engines.batch.execution import launch

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@apart
def preempt(state: State, s):
    """The next member to leave the batch of server ``s`` goes back to its bin."""
    server, run = state.servers[s], state.servers[s].batch
    i = run.preempted_head
    run.preempted_head = state.requests[i].next
    state.requests[i].status = WAITING
    state.requests[i].preemptions += 1
    state.lane.in_service -= 1
    state.counts.preempted += 1
    push_preempted(state, i)
    server.next_event = server.end if run.preempted_head == NONE else state.requests[run.preempted_head].last_token


@part
def complete(state: State, s):
    """The batch of server ``s`` ends: its members are released, the controllers learn of it."""
    params, counts = state.params, state.counts
    lane, server, run = state.lane, state.servers[s], state.servers[s].batch
    counts.completed += run.completing
    lane.in_service -= run.completing
    if params.track:
        lane.past_deadline -= run.deadline_misses
        counts.met += run.completing - run.deadline_misses - run.tpot_misses
    counts.misses += run.tpot_misses
    if run.drop != NONE:
        drop(state, run.drop)
        lane.in_service -= 1
    feed(params, state.bins[any_row(params)], run)
    if run.choice != params.num_bins:
        feed(params, state.bins[controller_row(params, run.choice)], run)
    server.busy_s += server.end - server.start
    server.peak_ever = max(server.peak_ever, run.peak)
    server.batches += 1
    server.last_size = run.launched
    server.last_service = server.end - server.start
    server.last_e2e = run.worst_e2e
    server.last_kv_share = run.peak / state.hardware[s].eta
    server.end = server.next_event = server.predicted_end = math.inf
    server.reserved = 0.0
    run.number = NONE
    lane.free += 1


@part
def server_event(state: State, s):
    """The next preemption or the completion of the batch of server ``s``."""
    if state.servers[s].batch.preempted_head != NONE:
        preempt(state, s)
    else:
        complete(state, s)
    return True


@part
def may_ask(state: State, s):
    """Whether server ``s`` is free."""
    return state.servers[s].end == math.inf


@part
def do_nothing(state: State):
    """Batches go on by themselves."""


@part
def all_are_busy(state: State):
    """Whether no server is free: an arriving request has to wait for the next server event."""
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
def apply(state: State, choice, size):
    """Carry out the pending decision; return DECIDE, or BAD_BIN / BAD_SIZE with nothing done."""
    lane, params = state.lane, state.params
    status, choice, size, waits = read_answer(state, choice, size, 0)
    if status != DECIDE:
        return status
    if waits:
        lane.turn = params.num_servers
        return DECIDE
    if size < 0:
        refuse_first(state, choice, -size, 0)
        return DECIDE
    overdue = state.bins[overdue_row(params, 0)].length  # of the row of `any` where there is no such queue: 0
    refused = state.counts.refused
    launched = launch(state, lane.asked, choice, size)
    moved = state.bins[overdue_row(params, 0)].length > overdue
    if state.counts.refused > refused:
        note_refusal(state)
        moved = True
    if launched > 0 or not (params.overdue_batch_factor > 0.0 and moved):  # else all became overdue: it is asked again
        lane.turn = lane.asked + 1
    return DECIDE
