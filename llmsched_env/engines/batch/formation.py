"""Engine `batch`: how a batch is formed.

Requests join in the order of the chosen bin, each with a reservation of min(prompt + predicted output, memory), and
the first that does not fit closes the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.layout import IN_SERVICE, NONE
from llmsched_env.core.queueing.queues import head, merged, next_row, pop, precedes, unpop, would_mix
from llmsched_env.engines.batch.overdue_at_launch import others_wait, remove_overdue

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

NOTHING_TAKEN = (0.0, 0.0)
"""What a batch without members takes: (KV tokens reserved, predicted output tokens)."""


@part
def fits(state: State, hardware, i, n, taken):
    """Whether request ``i`` may join a batch of ``n`` members that take ``taken``."""
    lane, request = state.lane, state.requests[i]
    reserved, tokens = taken
    if request.prompt + request.generated + 1 > hardware.eta:
        return False
    if reserved + min(request.prompt + request.predicted, hardware.eta) > hardware.eta:
        return False
    if n == 0 or tokens + request.predicted <= state.params.max_tokens:
        return True
    return lane.now >= request.arrival + state.params.max_wait


@part
def add_to(taken, hardware, request):
    """What a batch takes with one more member, ``request``."""
    reserved, tokens = taken
    return reserved + min(request.prompt + request.predicted, hardware.eta), tokens + request.predicted


def formation(find: Callable, take: Callable) -> Callable:
    """The rule by which a batch is formed, over a way to look at the queues.

    ``find(state, choice)``: (row, request) that comes next in ``choice``, NONE when there is none;
    ``take(state, row, i)``: request i of that row joins.
    """

    @part
    def form(state: State, hardware, choice, size, n, taken):
        """Let requests join the ``n`` in ``state.members``, which take ``taken``, until there are ``size`` or the next
        one does not fit; how many there are then, and what they take."""
        while n < size:
            row, i = find(state, choice)
            if i == NONE or would_mix(state, i, n, state.members[0]) or not fits(state, hardware, i, n, taken):
                break
            take(state, row, i)
            taken = add_to(taken, hardware, state.requests[i])
            state.members[n] = i
            n += 1
        return n, taken

    return form


@part
def find_head(state: State, choice):
    """The first request of the choice."""
    if state.lane.waiting == 0:
        return NONE, NONE
    row = next_row(state, choice, 0)
    return row, head(state, row)


@part
def take_into_service(state: State, row, i):
    """It leaves its bin for good."""
    pop(state, row)
    state.requests[i].status = IN_SERVICE


@part
def take_for_a_look(state: State, row, i):
    """It leaves its bin until ``unpop``."""
    pop(state, row)


@part
def find_by_cursor(state: State, choice):
    """The first request of the chosen FIFO bin behind the cursors, which walk along the bins."""
    first, end = rows_of(state, choice)
    best = NONE
    for row in range(first, end):
        i = state.bins[row].cursor
        if i != NONE and (best == NONE or precedes(state, i, state.bins[best].cursor)):
            best = row
    return best, state.bins[best].cursor if best != NONE else NONE


@part
def move_cursor(state: State, row, i):
    """The cursor goes on to the next request."""
    state.bins[row].cursor = state.requests[i].next


@part
def rows_of(state: State, choice):
    """Rows (first, end) of the queues that ``choice`` stands for."""
    if choice == state.params.num_bins:
        return merged(state, 0)
    row = next_row(state, choice, 0)
    return row, row + 1


_admit = formation(find_head, take_into_service)
_look = formation(find_head, take_for_a_look)
_walk = formation(find_by_cursor, move_cursor)


@part
def look_fifo(state: State, choice, size, hardware):
    """Put the first requests of a ``choice`` of FIFO queues that one batch would take into ``members``; how many.

    No request moves.
    """
    first, end = rows_of(state, choice)
    for row in range(first, end):
        state.bins[row].cursor = state.bins[row].head
    n, _ = _walk(state, hardware, choice, size, 0, NOTHING_TAKEN)
    return n


@apart
def look_keyed(state: State, choice, size, hardware):
    """The same for bins that are heaps: the first ones are taken out and put back."""
    n, _ = _look(state, hardware, choice, size, 0, NOTHING_TAKEN)
    for m in range(n - 1, -1, -1):
        unpop(state, state.members[m])
    return n


@part
def admit(state: State, s, choice, size, n):
    """Move requests of ``choice`` to the ``n`` in ``state.members``, for a batch on server ``s``, until there are
    ``size``; return how many there are."""
    hardware, taken = state.hardware[s], NOTHING_TAKEN
    for m in range(n):
        taken = add_to(taken, hardware, state.requests[state.members[m]])
    n, taken = _admit(state, hardware, choice, size, n, taken)
    state.servers[s].reserved = taken[0]
    return n


@part
def form_batch(state: State, s, choice, size):
    """Put the members of the next batch on server ``s`` into ``state.members``; return how many."""
    n = admit(state, s, choice, size, 0)
    if state.params.overdue_batch_factor == 0.0:
        return n
    while n > 0:
        kept = remove_overdue(state, state.hardware[s], n)
        if kept == n:
            break
        n = admit(state, s, choice, size, kept) if others_wait(state, choice) else kept
    return n
