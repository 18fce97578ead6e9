"""Bins: FIFO linked lists through the request records, or heaps by a static key; and their merge, `any`.

Requests that were evicted and returned (``evictions`` > 0) stand before all others, by number; under `oracle-srpt` they
stand by key among them.  Bin k of group g (a server's own bins where arrivals are routed) is row g K + k.

The late bin, where there is one, is the last of a group: a list in the order in which its requests came there.
"""

from __future__ import annotations

import numpy as np

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import NONE, WAITING
from llmsched_env.core.queueing.heap import binary_heap


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
def _before(heap, requests, a, b):
    return _less(requests, heap[a], heap[b])


@part
def _swap(heap, a, b):
    heap[a], heap[b] = heap[b], heap[a]


_rise, _sink = binary_heap(_before, _swap)


@part
def _heap_push(state, k, i):
    heap, row = state.heap[k], state.bins[k]
    heap[row.heap_size] = i
    _rise(heap, state.requests, row.heap_size)
    row.heap_size += 1


@part
def _heap_pop(state, k):
    heap, row = state.heap[k], state.bins[k]
    row.heap_size -= 1
    _swap(heap, 0, row.heap_size)
    _sink(heap, state.requests, 0, row.heap_size)
    return heap[row.heap_size]


@part
def row_of(state, i):
    """Row of the bin of request ``i``."""
    request, bins = state.requests[i], state.lane.num_bins
    return request.group * bins + (bins - 1 if request.late else request.bin)


@part
def in_heap(state, i):
    """Whether request ``i`` waits, or would, in a heap."""
    request = state.requests[i]
    return state.lane.keyed and (state.lane.preemptive or not (request.late or request.evictions > 0))


@part
def _link(state, k, before, i):
    """Put request ``i`` into the list of row ``k`` behind ``before`` (NONE: in front)."""
    row, requests = state.bins[k], state.requests
    after = row.head if before == NONE else requests[before].next
    requests[i].next, requests[i].prev = after, before
    if before == NONE:
        row.head = i
    else:
        requests[before].next = i
    if after == NONE:
        row.tail = i
    else:
        requests[after].prev = i


@part
def _unlink(state, k, i):
    """Take request ``i`` out of the list of row ``k``."""
    row, requests = state.bins[k], state.requests
    before, after = requests[i].prev, requests[i].next
    if row.returned == i:
        row.returned = before
    if before == NONE:
        row.head = after
    else:
        requests[before].next = after
    if after == NONE:
        row.tail = before
    else:
        requests[after].prev = before


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
    else:
        _link(state, k, row.tail, i)


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
    _link(state, k, before, i)
    if row.returned == before:
        row.returned = i


@part
def head(state, k):
    """First request of bin ``k``, or NONE."""
    row = state.bins[k]
    if row.head != NONE:
        return row.head
    while row.heap_size > 0:
        if not state.requests[state.heap[k, 0]].late:
            return state.heap[k, 0]
        _heap_pop(state, k)  # it went to the late bin
    return NONE


@part
def would_mix(state, i, n, first):
    """Whether request ``i`` stays out of a decision's admission, which has ``n`` members and began with ``first``:
    the late and the others are not taken together."""
    return n > 0 and state.requests[i].late != state.requests[first].late


@part
def merged(state, group):
    """Rows (first, end) that `any` of ``group`` stands for: all but the late bin, or that one while the others are
    empty."""
    first = group * state.lane.num_bins
    end = first + state.lane.num_bins
    if not state.lane.late_bin:
        return first, end
    for k in range(first, end - 1):
        if state.bins[k].length > 0:
            return first, end - 1
    return end - 1, end


@part
def length_of_any(state, group):
    """Requests that `any` of ``group`` stands for."""
    first, end = merged(state, group)
    total = 0
    for k in range(first, end):
        total += state.bins[k].length
    return total


@part
def first_bin(state, group):
    """Row of the bin of ``group`` whose head is first in the order of `any`, or NONE when nothing waits in it."""
    first, end = merged(state, group)
    if end == first + 1:
        return first if state.bins[first].length > 0 else NONE
    best, best_head = NONE, NONE
    for k in range(first, end):
        i = head(state, k)
        if i != NONE and (best == NONE or precedes(state, i, best_head)):
            best, best_head = k, i
    return best


@part
def pop(state, k):
    """Take the first request out of bin ``k``, which is not empty, and return its number."""
    row = state.bins[k]
    i = head(state, k)
    _count(state, row, i, -1)
    if in_heap(state, i):
        _heap_pop(state, k)
    else:
        _unlink(state, k, i)
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
    if in_heap(state, i):
        _heap_push(state, k, i)
    else:
        _link(state, k, row.returned, i)


@part
def push_late(state, i):
    """Put request ``i``, which is in no queue, at the end of the late bin."""
    state.requests[i].late = 1
    k = row_of(state, i)
    _count(state, state.bins[k], i, 1)
    _link(state, k, state.bins[k].tail, i)


@part
def give_up(state, i):
    """Request ``i``, which waits in its bin and was never evicted, goes to the late bin."""
    k = row_of(state, i)
    _count(state, state.bins[k], i, -1)
    if not state.lane.keyed:
        _unlink(state, k, i)
    push_late(state, i)


@part
def oldest_waiting(state):
    """Smallest number of a waiting request outside the late bin; NONE: there is none."""
    lane = state.lane
    late = 0
    if lane.late_bin:
        for group in range(lane.groups):
            late += state.bins[(group + 1) * lane.num_bins - 1].length
    if lane.waiting == late:
        return NONE
    if not lane.keyed and lane.groups == 1 and not lane.late_bin:
        oldest = np.int64(2**62)
        for k in range(lane.num_bins):
            i = state.bins[k].head
            if i != NONE:
                oldest = min(oldest, i)
        return oldest
    while state.requests[lane.oldest].status != WAITING or state.requests[lane.oldest].late:
        lane.oldest += 1
    return lane.oldest
