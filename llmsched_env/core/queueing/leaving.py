"""Requests that leave without service: refused at their arrival or later, or abandoned by a client whose patience is
over (docs/reference/semantics.md, 14)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.constants import AT_DEADLINE, BY_RATE, BY_SCHEDULER, QUEUE_FULL
from llmsched_env.core.costs import miss_at_exit
from llmsched_env.core.layout import ABANDONED, NONE, REFUSED, WAITING
from llmsched_env.core.queueing.overdue import next_due, take_due
from llmsched_env.core.queueing.queues import head, leave_queue, next_row, pop, would_mix
from llmsched_env.core.queueing.sessions import ends_now

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@apart
def refuse(state: State, i, reason):
    """Request ``i``, which is in no queue, is refused now."""
    request = state.requests[i]
    request.status, request.reason, request.left = REFUSED, reason, state.lane.now
    state.counts.refused += 1
    miss_at_exit(state, request)
    ends_now(state, i)


@apart
def _abandon(state: State, i):
    """The client of the waiting request ``i`` gives up now."""
    request = state.requests[i]
    leave_queue(state, i)
    request.status, request.left = ABANDONED, state.lane.now
    state.counts.abandoned += 1
    miss_at_exit(state, request)
    ends_now(state, i)


@apart
def accepts(state: State, i):
    """Whether the arriving request ``i`` is let in; refuses it otherwise."""
    params, lane = state.params, state.lane
    waiting = state.servers[state.requests[i].group].waiting if params.groups > 1 else lane.waiting
    if params.queue_cap > 0 and waiting >= params.queue_cap:
        refuse(state, i, QUEUE_FULL)
        return False
    if params.accept_rate < math.inf:
        lane.bucket = min(params.accept_burst, lane.bucket + params.accept_rate * (lane.now - lane.bucket_time))
        lane.bucket_time = lane.now
        if lane.bucket < 1.0:
            refuse(state, i, BY_RATE)
            return False
        lane.bucket -= 1.0
    return True


@part
def _next_to_give_up(state: State):
    """The request whose client gives up next, or NONE: the one of smallest number that waits for its first dispatch."""
    lane = state.lane
    while lane.patient < lane.next_arrival:
        request = state.requests[lane.patient]
        if request.status == WAITING and math.isnan(request.dispatch):
            return lane.patient
        lane.patient += 1
    return NONE


@apart
def next_exit(state: State):
    """Time at which a waiting request leaves if nothing is started; inf: none will."""
    params, time = state.params, math.inf
    if state.lane.waiting == 0:
        return time
    if params.patience < math.inf:
        i = _next_to_give_up(state)
        if i != NONE:
            time = state.requests[i].arrival + params.patience
    if params.refuses_overdue:
        time = min(time, next_due(state))
    return time


@apart
def let_leave(state: State):
    """All requests leave whose time is over by now; whether any did."""
    lane, params = state.lane, state.params
    left = False
    if params.patience < math.inf:
        i = _next_to_give_up(state)
        while i != NONE and state.requests[i].arrival + params.patience <= lane.now:
            _abandon(state, i)
            left = True
            i = _next_to_give_up(state)
    if params.refuses_overdue:
        while next_due(state) <= lane.now:
            i = take_due(state)
            leave_queue(state, i)
            refuse(state, i, AT_DEADLINE)
            left = True
    return left


@part
def note_refusal(state: State):
    """Requests were refused during the decisions of this instant: an event for the servers whose turn is to come."""
    lane = state.lane
    lane.events += 1
    lane.event_time = lane.now
    lane.woken, lane.tick_spent = 1, 0


@apart
def refuse_first(state: State, choice, n, group):
    """The scheduler refuses the first ``n`` requests of ``choice`` in the bins of ``group``."""
    refused, first = 0, NONE
    while refused < n:
        k = next_row(state, choice, group)
        i = head(state, k) if k != NONE else NONE
        if i == NONE or would_mix(state, i, refused, first):
            break
        pop(state, k)
        refuse(state, i, BY_SCHEDULER)
        first = i
        refused += 1
    note_refusal(state)
