"""Who becomes tight, and who late: requests that will hardly meet their deadline, or not at all.

The last start of a request is its deadline minus a factor times what it takes alone on server 0.  Who still waits then,
and was never evicted, is demoted, in order of (that time or the arrival, number).
"""

from __future__ import annotations

import math

from llmsched_env.compiled import part
from llmsched_env.latency import decode_until_s, prefill_s
from llmsched_env.layout import FRESH, LATE, TIGHT, WAITING
from llmsched_env.queues import demote


@part
def last_start_s(state, request, factor):
    """Latest time at which ``request`` may be started, by its predicted length, if it takes ``factor`` times as long
    as alone; inf without a deadline."""
    server, slo = state.servers[0], state.slos[request.slo_class]
    prompt = float(request.prompt)
    prefill = prefill_s(server, prompt, prompt * prompt)
    decode = decode_until_s(server, 1, prompt, prompt, request.predicted)
    return request.arrival + min(slo.ttft - factor * prefill, slo.e2e - factor * (prefill + decode))


@part
def next_of(lane, request):
    """What ``request`` becomes next: TIGHT, or LATE."""
    return TIGHT if request.urgency == FRESH and lane.factors[0] < math.inf else LATE


@part
def _sooner(a, b):
    return a.at < b.at or (a.at == b.at and a.request < b.request)


@part
def watch(state, i):
    """Note when request ``i`` becomes tight, or where it is, late."""
    lane, heap, request = state.lane, state.expiry, state.requests[i]
    factor = lane.factors[next_of(lane, request) - 1]
    due = max(request.arrival, last_start_s(state, request, factor)) if factor < math.inf else math.inf
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
    """Demote everybody whose last start is over, after the events of an instant."""
    lane = state.lane
    while lane.expiring > 0 and state.expiry[0].at <= lane.now:
        i = state.expiry[0].request
        _forget_first(state)
        if state.requests[i].status == WAITING and state.requests[i].evictions == 0:
            demote(state, i, next_of(lane, state.requests[i]))
            if state.requests[i].urgency < LATE:
                watch(state, i)
