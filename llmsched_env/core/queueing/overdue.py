"""Which requests become overdue: those that will hardly meet their deadline, or not at all.

The last start of a request is its deadline minus a factor times what it takes alone on server 0.  A request that still
waits then, and was never preempted, moves to the overdue queue, in order of (that time or the arrival, number).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.latency import alone_s
from llmsched_env.core.layout import WAITING
from llmsched_env.core.queueing.heap import binary_heap, sooner, swap_entries
from llmsched_env.core.queueing.queues import make_overdue

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def margin(alone, factor, target):
    """Least time that must be left of ``target`` for what takes ``alone``: ``factor`` times that, but no more than half
    of the target unless even alone takes longer."""
    return min(factor * alone, max(alone, 0.5 * target))


@part
def last_start_s(state: State, request):
    """Latest time at which ``request`` may be started, by its predicted length; inf without a deadline."""
    slo, factor = state.slos[request.slo_class], state.params.overdue_factor
    prefill, decode = alone_s(state.hardware[0], request.prompt, request.predicted)
    return request.arrival + min(
        slo.ttft - margin(prefill, factor, slo.ttft), slo.e2e - margin(prefill + decode, factor, slo.e2e)
    )


_rise, _sink = binary_heap(sooner, swap_entries)


@apart
def schedule_overdue(state: State, i):
    """Note when the arriving request ``i`` becomes overdue."""
    lane, request = state.lane, state.requests[i]
    due = max(request.arrival, last_start_s(state, request))
    if due == math.inf:
        return
    at = lane.expiring
    state.expiry[at].at, state.expiry[at].request = due, i
    _rise(state.expiry, state.requests, at)
    lane.expiring += 1


@part
def _remove_first(state: State):
    """Take the first entry off the heap."""
    lane = state.lane
    lane.expiring -= 1
    swap_entries(state.expiry, 0, lane.expiring)
    _sink(state.expiry, state.requests, 0, lane.expiring)


@apart
def next_due(state: State):
    """When a waiting request that was never preempted becomes overdue next; inf: none does."""
    lane = state.lane
    while lane.expiring > 0:
        request = state.requests[state.expiry[0].request]
        if request.status == WAITING and request.preemptions == 0 and not request.overdue:
            return state.expiry[0].at
        _remove_first(state)
    return math.inf


@part
def take_due(state: State):
    """Take the request that ``next_due`` means off the heap; its number."""
    i = state.expiry[0].request
    _remove_first(state)
    return i


@apart
def move_overdue(state: State):
    """Move all requests whose last start is over to the overdue queue, after the events of an instant."""
    lane = state.lane
    while lane.expiring > 0 and state.expiry[0].at <= lane.now:
        i = state.expiry[0].request
        _remove_first(state)
        request = state.requests[i]
        if request.status == WAITING and request.preemptions == 0 and not request.overdue:
            make_overdue(state, i)
