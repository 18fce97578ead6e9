"""Bins: FIFO linked lists through the request records, or heaps by a static key; and their merge, `any`.

Requests that were evicted and returned (``evictions`` > 0) stand before all others, by number; under `oracle-srpt` they
stand by key among them.  Bin k of group g (a server's own bins where arrivals are routed) is row g K + k.
"""

from __future__ import annotations

import numpy as np

from llmsched_env.compiled import part
from llmsched_env.layout import NONE, WAITING


@part
def _less(requests, i, j):
    a, b = requests[i].key, requests[j].key
    return a < b or (a == b and i < j)


@part
def precedes(state, i, j):
    """Whether waiting request ``i`` comes before ``j`` in the order of `any`."""
    returned_i, returned_j = state.requests[i].evictions > 0, state.requests[j].evictions > 0
    if state.lane.preemptive:
        return _less(state.requests, i, j)
    if returned_i != returned_j:
        return returned_i
    if returned_i or not state.lane.keyed:
        return i < j
    return _less(state.requests, i, j)


@part
def _heap_push(state, k, i):
    heap, row = state.heap[k], state.bins[k]
    at = row.heap_size
    row.heap_size += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not _less(state.requests, i, heap[parent]):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = i


@part
def _heap_pop(state, k):
    heap, row = state.heap[k], state.bins[k]
    top = heap[0]
    row.heap_size -= 1
    size = row.heap_size
    last = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _less(state.requests, heap[child + 1], heap[child]):
            child += 1
        if not _less(state.requests, heap[child], last):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last
    return top


@part
def row_of(state, i):
    """Row of the bin of request ``i``."""
    return state.requests[i].group * state.lane.num_bins + state.requests[i].bin


@part
def _count(state, row, i, change):
    """Request ``i`` comes (``change`` 1) to the bin ``row``, or leaves it (-1)."""
    row.length += change
    state.lane.waiting += change
    if state.lane.groups > 1:
        server, request = state.servers[state.requests[i].group], state.requests[i]
        server.waiting += change
        server.queued_tokens += change * float(request.prompt + request.generated)


@part
def push(state, i):
    """Put the arriving request ``i`` into its bin."""
    k = row_of(state, i)
    row = state.bins[k]
    _count(state, row, i, 1)
    if state.lane.keyed:
        _heap_push(state, k, i)
        return
    state.requests[i].next = NONE
    if row.tail == NONE:
        row.head = i
    else:
        state.requests[row.tail].next = i
    row.tail = i


@part
def push_returned(state, i):
    """Put the evicted request ``i`` back into its bin, before the others, among the returned by number."""
    requests = state.requests
    k = row_of(state, i)
    row = state.bins[k]
    _count(state, row, i, 1)
    state.lane.oldest = min(state.lane.oldest, i)
    if state.lane.preemptive:
        requests[i].key = float(requests[i].output - requests[i].generated)
        _heap_push(state, k, i)
        return
    before = NONE  # the returned request behind which it goes
    if row.returned != NONE:
        if row.returned < i:
            before = row.returned
        elif row.head < i:
            before = row.head
            while requests[before].next < i:
                before = requests[before].next
    if before == NONE:
        requests[i].next = row.head
        row.head = i
    else:
        requests[i].next = requests[before].next
        requests[before].next = i
    if row.returned == before:
        row.returned = i
    if requests[i].next == NONE:
        row.tail = i


@part
def head(state, k):
    """First request of bin ``k``, or NONE."""
    row = state.bins[k]
    if row.head != NONE:
        return row.head
    if row.heap_size > 0:
        return state.heap[k, 0]
    return NONE


@part
def first_bin(state, group):
    """Row of the bin of ``group`` whose head is first in the order of `any`, or NONE when nothing waits in it."""
    first = group * state.lane.num_bins
    if state.lane.num_bins == 1:
        return first if state.bins[first].length > 0 else NONE
    best, best_head = NONE, NONE
    for k in range(first, first + state.lane.num_bins):
        i = head(state, k)
        if i != NONE and (best == NONE or precedes(state, i, best_head)):
            best, best_head = k, i
    return best


@part
def pop(state, k):
    """Take the first request out of bin ``k``, which is not empty, and return its number."""
    row = state.bins[k]
    i = row.head
    if i == NONE:
        i = _heap_pop(state, k)
        _count(state, row, i, -1)
        return i
    _count(state, row, i, -1)
    row.head = state.requests[i].next
    if row.returned == i:
        row.returned = NONE
    if row.head == NONE:
        row.tail = NONE
    return i


@part
def unpop(state, i):
    """Undo ``pop`` of request ``i`` where several were taken and are put back last first."""
    if state.requests[i].evictions > 0:
        push_returned(state, i)
        return
    k = row_of(state, i)
    row = state.bins[k]
    _count(state, row, i, 1)
    if state.lane.keyed:
        _heap_push(state, k, i)
        return
    state.requests[i].next = row.head
    row.head = i
    if row.tail == NONE:
        row.tail = i


@part
def oldest_waiting(state):
    """Smallest number of a waiting request; something waits."""
    lane = state.lane
    if not lane.keyed and lane.groups == 1:
        oldest = np.int64(2**62)
        for k in range(lane.num_bins):
            i = state.bins[k].head
            if i != NONE:
                oldest = min(oldest, i)
        return oldest
    while state.requests[lane.oldest].status != WAITING:
        lane.oldest += 1
    return lane.oldest
