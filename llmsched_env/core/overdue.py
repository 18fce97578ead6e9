"""Who goes to the late bin: requests that will hardly meet their deadline, or not at all.

The last start of a request is its deadline minus a factor times what it takes alone on server 0.  Who still waits then,
and was never evicted, goes there, in order of (that time or the arrival, number).
"""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.latency import decode_until_s, prefill_s
from llmsched_env.core.layout import WAITING
from llmsched_env.core.queues import give_up


@part
def margin(alone, factor, target):
    """Least time that must be left of ``target`` for what takes ``alone``: ``factor`` times that, but no more than half
    of the target unless even alone takes longer."""
    return min(factor * alone, max(alone, 0.5 * target))


@part
def last_start_s(state, request):
    """Latest time at which ``request`` may be started, by its predicted length; inf without a deadline."""
    server, slo, factor = state.servers[0], state.slos[request.slo_class], state.lane.late_factor
    prompt = float(request.prompt)
    prefill = prefill_s(server, prompt, prompt * prompt)
    decode = decode_until_s(server, 1, prompt, prompt, request.predicted)
    return request.arrival + min(
        slo.ttft - margin(prefill, factor, slo.ttft), slo.e2e - margin(prefill + decode, factor, slo.e2e)
    )


@part
def _sooner(a, b):
    return a.at < b.at or (a.at == b.at and a.request < b.request)


@part
def watch(state, i):
    """Note when the arriving request ``i`` becomes late."""
    lane, heap, request = state.lane, state.expiry, state.requests[i]
    due = max(request.arrival, last_start_s(state, request))
    if due == math.inf:
        return
    at = lane.expiring
    lane.expiring += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not (due < heap[parent].at or (due == heap[parent].at and i < heap[parent].request)):
            break
        heap[at].at, heap[at].request = heap[parent].at, heap[parent].request
        at = parent
    heap[at].at, heap[at].request = due, i


@part
def _forget_first(state):
    """Take the first entry off the heap."""
    lane, heap = state.lane, state.expiry
    lane.expiring -= 1
    size = lane.expiring
    due, i, at = heap[size].at, heap[size].request, 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _sooner(heap[child + 1], heap[child]):
            child += 1
        if due < heap[child].at or (due == heap[child].at and i < heap[child].request):
            break
        heap[at].at, heap[at].request = heap[child].at, heap[child].request
        at = child
    heap[at].at, heap[at].request = due, i


@part
def retire(state):
    """Give up everybody whose last start is over, after the events of an instant."""
    lane = state.lane
    while lane.expiring > 0 and state.expiry[0].at <= lane.now:
        i = state.expiry[0].request
        _forget_first(state)
        request = state.requests[i]
        if request.status == WAITING and request.evictions == 0 and not request.late:
            give_up(state, i)
