"""Bins: FIFO linked lists through the request records, or heaps by a static key; and their merge, `any`.

Requests that were preempted and returned (``preemptions`` > 0) stand before all others, by number; under `oracle-srpt`
they stand by key among them, and so they do with PARAMS.ordered.

A group of bins (a server's own where arrivals are routed, else there is one group) has R rows of State.bins: bin k of
group g is row g R + k.  The overdue queue, where there is one, is the last row of its group, beside the bins: a list in
the order in which its requests came there.  Behind all groups stands the row of the controller of `any`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.layout import NONE, WAITING
from llmsched_env.core.queueing.heap import binary_heap

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def _less(requests, i, j):
    a, b = requests[i].key, requests[j].key
    return a < b or (a == b and i < j)


@part
def precedes(state: State, i, j):
    """Whether waiting request ``i`` comes before ``j`` in the order of `any`."""
    returned_i, returned_j = state.requests[i].preemptions > 0, state.requests[j].preemptions > 0
    if state.params.preemptive or state.params.ordered:
        return _less(state.requests, i, j)
    if returned_i != returned_j:
        return returned_i
    if returned_i or not state.params.keyed:
        return i < j
    return _less(state.requests, i, j)


@part
def _before(heap, requests, a, b):
    return _less(requests, heap[a], heap[b])


@part
def _swap(heap, a, b):
    heap[a], heap[b] = heap[b], heap[a]


_rise, _sink = binary_heap(_before, _swap)


@apart
def _heap_push(state: State, k, i):
    heap, row = state.heap[k], state.bins[k]
    heap[row.heap_size] = i
    _rise(heap, state.requests, row.heap_size)
    row.heap_size += 1


@apart
def _heap_pop(state: State, k):
    heap, row = state.heap[k], state.bins[k]
    row.heap_size -= 1
    _swap(heap, 0, row.heap_size)
    _sink(heap, state.requests, 0, row.heap_size)
    return heap[row.heap_size]


@part
def overdue_row(params, group):
    """Row of the overdue queue of ``group``, where there is one."""
    return group * params.rows + params.num_bins


@part
def any_row(params):
    """Row of the controller of `any`."""
    return params.groups * params.rows


@part
def own_row(state: State, i):
    """Row of the queue of request ``i``."""
    request = state.requests[i]
    if request.overdue:
        return overdue_row(state.params, request.group)
    return request.group * state.params.rows + request.bin


@part
def controller_row(params, choice):
    """Row of the controller of ``choice``: those of group 0 serve all groups."""
    if choice == params.num_bins:
        return any_row(params)
    return choice if choice < params.num_bins else overdue_row(params, 0)


@part
def in_heap(state: State, i):
    """Whether request ``i`` waits, or would, in a heap."""
    request = state.requests[i]
    by_key = state.params.preemptive or state.params.ordered
    return state.params.keyed and (by_key or not (request.overdue or request.preemptions > 0))


@part
def _link(state: State, k, before, i):
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
def _unlink(state: State, k, i):
    """Take request ``i`` out of the list of row ``k``."""
    row, requests = state.bins[k], state.requests
    before, after = requests[i].prev, requests[i].next
    if row.last_preempted == i:
        row.last_preempted = before
    if before == NONE:
        row.head = after
    else:
        requests[before].next = after
    if after == NONE:
        row.tail = before
    else:
        requests[after].prev = before


@part
def _heap_remove(state: State, k, i):
    """Take request ``i`` out of the heap of row ``k``, wherever it stands."""
    heap, row = state.heap[k], state.bins[k]
    at = 0
    while heap[at] != i:
        at += 1
    row.heap_size -= 1
    if at < row.heap_size:
        _swap(heap, at, row.heap_size)
        _sink(heap, state.requests, at, row.heap_size)
        _rise(heap, state.requests, at)


@part
def _count(state: State, row, i, change):
    """Request ``i`` comes (``change`` 1) to the bin ``row``, or leaves it (-1)."""
    row.length += change
    state.lane.waiting += change
    if state.params.groups > 1 or state.params.routing > 0:
        server, request = state.servers[state.requests[i].group], state.requests[i]
        server.waiting += change
        server.queued_tokens += change * float(request.prompt + request.generated)


@part
def push(state: State, i):
    """Put the arriving request ``i`` into its bin."""
    k = own_row(state, i)
    row = state.bins[k]
    _count(state, row, i, 1)
    if state.params.keyed:
        _heap_push(state, k, i)
    else:
        _link(state, k, row.tail, i)


@apart
def push_preempted(state: State, i):
    """Put the preempted request ``i`` back into its bin, before the others, among the returned by number."""
    requests = state.requests
    k = own_row(state, i)
    row = state.bins[k]
    _count(state, row, i, 1)
    state.lane.oldest = min(state.lane.oldest, i)
    if state.params.preemptive or state.params.ordered:
        if state.params.preemptive:
            requests[i].key = float(requests[i].output - requests[i].generated)
        _heap_push(state, k, i)
        return
    before = NONE  # the returned request behind which it goes
    if row.last_preempted != NONE:
        if row.last_preempted < i:
            before = row.last_preempted
        elif row.head < i:
            before = row.head
            while requests[before].next < i:
                before = requests[before].next
    _link(state, k, before, i)
    if row.last_preempted == before:
        row.last_preempted = i


@part
def head(state: State, k):
    """First request of bin ``k``, or NONE."""
    row = state.bins[k]
    if row.head != NONE:
        return row.head
    while row.heap_size > 0:
        request = state.requests[state.heap[k, 0]]
        if request.status == WAITING and not request.overdue:
            return state.heap[k, 0]
        _heap_pop(state, k)  # it went to the overdue queue, or left
    return NONE


@part
def would_mix(state: State, i, n, first):
    """Whether request ``i`` stays out of a decision's admission, which has ``n`` members and began with ``first``:
    overdue requests and others are not taken together."""
    return n > 0 and state.requests[i].overdue != state.requests[first].overdue


@part
def merged(state: State, group):
    """Rows (first, end) that `any` of ``group`` stands for: its bins, or the overdue queue while they are empty."""
    params = state.params
    first = group * params.rows
    end = first + params.num_bins
    if not params.has_overdue:
        return first, end
    for k in range(first, end):
        if state.bins[k].length > 0:
            return first, end
    return end, end + 1


@part
def length_of_any(state: State, group):
    """Requests that `any` of ``group`` stands for."""
    first, end = merged(state, group)
    total = 0
    for k in range(first, end):
        total += state.bins[k].length
    return total


@part
def first_row(state: State, group):
    """Row of ``group`` whose head is first in the order of `any`, or NONE when nothing waits there."""
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
def next_row(state: State, choice, group):
    """Row of ``group`` that gives the next request of ``choice``; NONE for `any` when nothing waits there."""
    params = state.params
    if choice == params.num_bins:
        return first_row(state, group)
    return group * params.rows + choice if choice < params.num_bins else overdue_row(params, group)


@part
def pop(state: State, k):
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
def take_out(state: State, i):
    """Take the waiting request ``i`` out of its queue, wherever it stands."""
    k = own_row(state, i)
    _count(state, state.bins[k], i, -1)
    if in_heap(state, i):
        _heap_remove(state, k, i)
    else:
        _unlink(state, k, i)


@apart
def unpop(state: State, i):
    """Undo ``pop`` of request ``i`` where several were taken and are put back last first."""
    if state.requests[i].preemptions > 0:
        push_preempted(state, i)
        return
    k = own_row(state, i)
    row = state.bins[k]
    _count(state, row, i, 1)
    if in_heap(state, i):
        _heap_push(state, k, i)
    else:
        _link(state, k, row.last_preempted, i)


@part
def push_overdue(state: State, i):
    """Put request ``i``, which is in no queue, at the end of the overdue queue."""
    state.requests[i].overdue = 1
    k = own_row(state, i)
    _count(state, state.bins[k], i, 1)
    _link(state, k, state.bins[k].tail, i)


@part
def make_overdue(state: State, i):
    """Request ``i``, which waits in its bin and was never preempted, moves to the overdue queue."""
    leave_queue(state, i)
    push_overdue(state, i)


@part
def leave_queue(state: State, i):
    """Take the waiting request ``i`` out of its queue; a heap keeps its number until that comes first (``head``)."""
    k = own_row(state, i)
    _count(state, state.bins[k], i, -1)
    if not in_heap(state, i):
        _unlink(state, k, i)


@part
def oldest_waiting(state: State):
    """Smallest number of a waiting request that is not overdue; NONE: there is none."""
    lane, params = state.lane, state.params
    overdue = 0
    if params.has_overdue:
        for group in range(params.groups):
            overdue += state.bins[overdue_row(params, group)].length
    if lane.waiting == overdue:
        return NONE
    if not params.keyed and params.groups == 1 and not params.has_overdue:
        oldest = 2**62
        for k in range(params.num_bins):
            i = state.bins[k].head
            if i != NONE:
                oldest = min(oldest, i)
        return oldest
    while state.requests[lane.oldest].status != WAITING or state.requests[lane.oldest].overdue:
        lane.oldest += 1
    return lane.oldest
