"""What is compiled of a policy's seat inside a real engine: queues, record, controllers, with the clock outside.

The functions are the parts of the engine `continuous`.  Nothing here lets time pass: the real engine says what
happened, and when.  All work on lane 0 and server 0 of the arrays at ``words`` (`addresses` of SEAT_ARRAYS).  What ends
a member's reservation returns the predicted tokens of a request that was still promised them, else 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit, typeof, types

from llmsched_env.compiler.addresses import ADDRESSES, arrays_at
from llmsched_env.compiler.parts import fingerprint, part
from llmsched_env.core.clock import note_gap, read_answer
from llmsched_env.core.layout import DROPPED, IN_SERVICE, NONE, RECORD, WAITING
from llmsched_env.core.queueing.overdue import move_overdue, schedule_overdue
from llmsched_env.core.queueing.queues import (
    head,
    next_row,
    own_row,
    pop,
    push,
    take_out,
    unpop,
    would_mix,
)
from llmsched_env.core.state import ARRAYS, Arrays, lane_state
from llmsched_env.engines.continuous.controllers import feed_window
from llmsched_env.engines.continuous.record import write_record
from llmsched_env.engines.continuous.running_set import note_completion, reservation, return_to_bin

FACTS = np.dtype(
    [
        ("now", "f8"),
        ("running", "i8"),  # members of the running set, those included that complete now
        ("leaving", "i8"),  # ... which are these (asynchronous scheduling)
        ("prefilling", "i8"),  # members whose prompt is not prefilled yet
        ("backlog", "f8"),  # tokens left to prefill
        ("blocks", "f8"),  # blocks of 16 tokens that the members take in the next iteration
        ("context", "f8"),  # tokens of context of the decoding members; only with details
        ("promised", "f8"),  # predicted tokens that the members still lack; only with details
        ("can_wait", "i8"),  # 1: something will happen without a decision
    ],
    align=True,
)
"""What the engine alone knows at a question."""

SEAT_ARRAYS = (*ARRAYS.types, typeof(np.zeros(1, RECORD)), typeof(np.zeros(1, FACTS)))
"""Behind the addresses: the arrays of the simulator, the record, the facts."""

_arrays_at = arrays_at(SEAT_ARRAYS)
_STATE = len(ARRAYS.types)

LOOK = types.void(ADDRESSES, types.boolean)
ANSWER = types.UniTuple(types.int64, 3)(ADDRESSES, types.int64, types.int64)
ARRIVE = types.void(ADDRESSES, types.int64)
NUMBER = types.int64(ADDRESSES, types.int64)
OFFER = types.int64(ADDRESSES, types.int64, types.int64, types.int64, types.int64, types.int64)
TAKE = types.int64(ADDRESSES, types.int64, types.float64)
PUT_BACK = types.int64(ADDRESSES, types.int64, types.int64)
COMPLETE = types.int64(ADDRESSES, types.int64, types.int64, types.int64, types.float64, types.float64)
SETTLE = types.void(ADDRESSES, types.float64, types.float64, types.float64, types.float64)


@njit(inline="always")
def arrays_of(words):
    """The arrays of the simulator, the record and the facts."""
    found = _arrays_at(words)
    return (Arrays(*found[:_STATE]), *found[_STATE:])


@part
def end_promise(state, request):
    """What member ``request`` reserved is free again; its predicted tokens, or 0 where it held nothing."""
    if request.server == NONE:
        return 0
    state.servers[0].reserved -= reservation(request, state.hardware[0].eta)
    request.server = NONE
    return request.predicted


SOURCES = fingerprint()
"""A closure variable of every entry and so part of the key of its cache."""


def queue_entries(sources: str) -> tuple[Callable, ...]:
    """A request arrives, and the next of a queue is offered: arrive, offer."""

    @njit(ARRIVE, cache=True)
    def arrive(words, i):
        """Request ``i``, whose row is written, waits in its bin."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        lane, request = state.lane, state.requests[i]
        lane.loaded = lane.next_arrival = i + 1
        late = not math.isnan(lane.last_arrival) and request.arrival < lane.last_arrival
        note_gap(lane, lane.last_arrival if late else request.arrival)
        request.status = WAITING
        push(state, i)
        if state.params.has_overdue:
            schedule_overdue(state, i)

    @njit(OFFER, cache=True)
    def offer(words, choice, size, n, first, members):
        """The request that the decision (choice, size) admits next, or NONE.

        ``n`` were admitted, beginning with ``first``; the running set has ``members``.
        """
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        server, hardware = state.servers[0], state.hardware[0]
        if members >= size or state.lane.waiting == 0:
            return NONE
        i = head(state, next_row(state, choice, 0))
        if i == NONE or would_mix(state, i, n, first):
            return NONE
        if state.params.by_prompt or hardware.capacity == math.inf:
            return i
        fits = server.reserved + reservation(state.requests[i], hardware.eta) <= hardware.eta
        return i if fits else NONE

    return arrive, offer


def question_entries(sources: str) -> tuple[Callable, ...]:
    """A policy is asked, and its answer is read: look, answer."""

    @njit(LOOK, cache=True)
    def look(words, details):
        """Write the record for a question; at least one request waits."""
        sources  # noqa: B018
        arrays, record, facts = arrays_of(words)
        state = lane_state(arrays, 0)
        known, lane, members = facts[0], state.lane, state.servers[0].set
        lane.now, lane.asked = known.now, 0
        members.running, members.leaving = known.running - known.leaving, known.leaving
        members.decoding = members.running - known.prefilling
        members.backlog, members.blocks = known.backlog, known.blocks
        members.context, members.promised = known.context, known.promised
        lane.in_service, lane.free = members.running, members.running == 0
        lane.final = not known.can_wait
        if state.params.has_overdue:
            move_overdue(state)
        write_record(state, record[0], details)

    @njit(ANSWER, cache=True)
    def answer(words, choice, size):
        """What an answer of the policy means: (status, choice, size), size 0 being wait."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        status, choice, size, waits = read_answer(state, choice, size, 0)
        return status, choice, 0 if waits else size

    return look, answer


def member_entries(sources: str) -> tuple[Callable, ...]:
    """A request joins the running set or leaves it unfinished: take, untake, release, put_back."""

    @njit(TAKE, cache=True)
    def take(words, i, now):
        """Request ``i``, the first of its queue, becomes a member of the running set; its predicted tokens."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        request, server = state.requests[i], state.servers[0]
        pop(state, own_row(state, i))
        request.status, request.server = IN_SERVICE, 0
        if math.isnan(request.dispatch):
            request.dispatch = now
        server.reserved += reservation(request, state.hardware[0].eta)
        return request.predicted

    @njit(NUMBER, cache=True)
    def untake(words, i):
        """The engine could not begin request ``i``: it waits again, where it stood."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        request = state.requests[i]
        promised = end_promise(state, request)
        request.status = WAITING
        state.lane.oldest = min(state.lane.oldest, i)
        unpop(state, i)
        return promised

    @njit(NUMBER, cache=True)
    def release(words, i):
        """The last token of member ``i`` is under way: what it reserved is free, its seat and its blocks are not."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        return end_promise(state, state.requests[i])

    @njit(PUT_BACK, cache=True)
    def put_back(words, i, generated):
        """Member ``i``, which has produced ``generated`` tokens in all, is preempted."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        promised = end_promise(state, state.requests[i])
        return_to_bin(state, i, generated)
        return promised

    return take, untake, release, put_back


def end_entries(sources: str) -> tuple[Callable, ...]:
    """A request or a segment of iterations ends: complete, give_up, settle."""

    @njit(COMPLETE, cache=True)
    def complete(words, i, output, members, kv_share, now):
        """Member ``i`` of ``members`` has its last token, the ``output``-th; ``kv_share`` of the memory stays in use.

        It may wait: preempted while its last token was under way.
        """
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        request, server = state.requests[i], state.servers[0]
        promised = 0
        if request.status == WAITING:
            take_out(state, i)
        else:
            promised = end_promise(state, request)
        request.output = output
        server.last_size, server.last_kv_share = members, kv_share
        note_completion(state, 0, i, now)
        return promised

    @njit(NUMBER, cache=True)
    def give_up(words, i):
        """The client of request ``i`` is gone: it leaves its queue, or the running set."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        request, promised = state.requests[i], 0
        if request.status == WAITING:
            take_out(state, i)
        else:
            promised = end_promise(state, request)
        request.status = DROPPED
        return promised

    @njit(SETTLE, cache=True)
    def settle(words, now, steps, time, members):
        """A segment is over: ``steps`` iterations with decoding members, which took ``time`` s, ``members`` in sum."""
        sources  # noqa: B018
        arrays, _, _ = arrays_of(words)
        state = lane_state(arrays, 0)
        own = state.servers[0].set
        state.lane.now = now
        own.window_steps += steps
        own.window_time += time
        own.window_members += members
        feed_window(state, state.servers[0])

    return complete, give_up, settle


arrive, offer = queue_entries(SOURCES)
look, answer = question_entries(SOURCES)
take, untake, release, put_back = member_entries(SOURCES)
complete, give_up, settle = end_entries(SOURCES)
