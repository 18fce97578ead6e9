"""The clock: which event comes next, what it does, and which server is asked.

Order at one instant, written here and nowhere else: server events by server number (on one server preemptions or
tokens, then completions), arrivals by request number, timers, decisions by server number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import ROUTED, TO_ROUTE
from llmsched_env.core.costs import accrue, charge
from llmsched_env.core.layout import (
    BAD_BIN,
    BAD_SIZE,
    DECIDE,
    DRAINED,
    HORIZON,
    LAST,
    NEED_MORE,
    NONE,
    REJECTED,
    ROUTE,
    WAITING,
)
from llmsched_env.core.queueing.leaving import accepts, let_leave, next_exit
from llmsched_env.core.queueing.overdue import move_overdue, schedule_overdue
from llmsched_env.core.queueing.queues import next_row, oldest_waiting, push
from llmsched_env.core.queueing.sessions import ends_now, is_released, next_arrival_s, take_planned

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


MOST_REFUSED = 2**31
"""Requests that one answer can refuse; more cannot wait."""


@part
def next_server_event(state: State):
    """Time of the first preemption or completion, inf when all servers are free."""
    time = math.inf
    for s in range(state.params.num_servers):
        time = min(time, state.servers[s].next_event)
    return time


@part
def next_timer(state: State):
    """Time of the next hold timer or tick, inf when there is none; only while something waits and a server may be
    asked."""
    lane, params = state.lane, state.params
    time = math.inf
    if lane.waiting == 0 or lane.free == 0 and not params.asks_busy:
        return time
    if params.hold < math.inf:
        oldest = oldest_waiting(state)
        due = state.requests[oldest].arrival + params.hold if oldest != NONE else math.inf
        if due > lane.now:
            time = due
    if params.tick < math.inf and not lane.tick_spent:
        lane.next_tick = int(math.floor(lane.now / params.tick))
        while lane.next_tick * params.tick <= lane.now:
            lane.next_tick += 1
        time = min(time, lane.next_tick * params.tick)
    return time


@part
def can_wait(state: State):
    """Whether any event can come if all free servers are parked."""
    lane = state.lane
    if lane.free < state.params.num_servers or is_released(state) or not lane.final:
        return True
    return next_timer(state) < math.inf or state.params.exits and next_exit(state) < math.inf


@part
def read_answer(state: State, choice, size, group):
    """What an answer means on a server whose bins are those of ``group``: (status, choice, size, is it wait).

    BAD_BIN and BAD_SIZE change nothing.  A bin, or an overdue queue, that is empty means `any`, and is counted; waiting
    where no event can come means `any` with the largest size.  A size below 0 is that of a refusal.
    """
    params, counts = state.params, state.counts
    if choice < 0 or choice > params.num_bins + params.has_overdue:
        return BAD_BIN, choice, size, False
    if size < 0 and not params.refusals:
        return BAD_SIZE, choice, size, False
    counts.decisions += 1
    if size == 0:
        if can_wait(state):
            counts.waits += 1
            return DECIDE, choice, size, True
        return DECIDE, params.num_bins, params.max_batch, False
    if choice != params.num_bins and state.bins[next_row(state, choice, group)].length == 0:
        counts.empty_choices += 1
        choice = params.num_bins
    return DECIDE, choice, max(min(size, params.max_batch), -MOST_REFUSED), False


@part
def is_tick(state: State):
    """Whether now is a multiple of the tick."""
    tick, now = state.params.tick, state.lane.now
    return tick < math.inf and now == math.floor(now / tick + 0.5) * tick


@part
def wake_servers(state: State, changed, timer):
    """Let servers be asked after the events of this instant (``changed`` if there were any), and note a tick."""
    lane = state.lane
    lane.at_tick = is_tick(state)
    if lane.at_tick and lane.waiting > 0 and (lane.free > 0 or state.params.asks_busy):
        lane.tick_spent = 1
    elif changed:
        lane.tick_spent = 0
    lane.woken = changed or lane.now == timer
    if lane.woken:
        lane.events += 1
        lane.event_time = lane.now
    lane.turn = 0


@part
def note_gap(lane, arrival):
    """Update the averages of the gaps between arrivals."""
    if math.isnan(lane.last_arrival):
        lane.last_arrival = arrival
        return
    gap = arrival - lane.last_arrival
    lane.last_arrival = arrival
    if math.isnan(lane.gap_fast):
        lane.gap_fast = lane.gap_slow = gap
    else:
        lane.gap_fast += (gap - lane.gap_fast) / 16.0
        lane.gap_slow += (gap - lane.gap_slow) / 256.0


@part
def fits_somewhere(state: State, i):
    """Whether the prompt of request ``i`` and one token fit into the memory of the largest server."""
    return state.requests[i].prompt + 1.0 <= state.params.max_eta


def clock(
    *,
    route: Callable,
    server_event: Callable,
    may_ask: Callable,
    start_servers: Callable,
    arrivals_change_nothing: Callable,
    cut_off: Callable,
    asks_routes: bool = False,
) -> Callable:
    """The ``advance`` of an engine, made of what the engine alone knows.

    ``route(state, i)``: set REQUEST.group of the arriving request i: ROUTED, NOWHERE or TO_ROUTE.
    ``server_event(state, s)``: what is due on server s now; whether anything changed.
    ``may_ask(state, s)``: whether server s is to be asked now.
    ``start_servers(state)``: all decisions of this instant are made.
    ``arrivals_change_nothing(state)``: whether no arrival before the next server event can lead to a decision.
    ``cut_off(state)``: the run ends at the horizon.
    ``asks_routes``: whether ``route`` may say TO_ROUTE.
    """

    @part
    def place(state: State, i, fits):
        """The request ``i`` is rejected when it fits nowhere, else it waits in its bin, unless it is refused."""
        request = state.requests[i]
        if not fits:
            request.status = REJECTED
            state.counts.rejected += 1
            charge(state, request)
            ends_now(state, i)
            return
        if state.params.gated and not accepts(state, i):
            return
        request.status = WAITING
        push(state, i)
        if state.params.has_overdue or state.params.refuses_overdue:
            schedule_overdue(state, i)

    @part
    def arrive(state: State):
        """The next request arrives: it is placed, unless a server must be named first (ROUTING.asked)."""
        lane = state.lane
        i = lane.next_arrival
        if lane.linked:
            take_planned(state)
        lane.next_arrival = i + 1
        note_gap(lane, state.requests[i].arrival)
        answer = route(state, i)
        if asks_routes and answer == TO_ROUTE:
            lane.router.asked = i
        else:
            place(state, i, answer == ROUTED)

    @part
    def arrive_before(state: State, limit):
        """Let all requests arrive that come before ``limit``, at which no server would be asked."""
        lane = state.lane
        moved = False
        while True:
            time = next_arrival_s(state, limit)
            if not time < limit or time > state.params.horizon:
                break
            accrue(state, time)
            lane.now = time
            arrive(state)
            lane.tick_spent = state.params.asks_busy and is_tick(state)
            moved = True
        if moved:
            lane.events += 1
            lane.event_time = lane.now

    @part
    def end_instant(state: State, changed, timer):
        """What follows the server events of this instant; it stops where a server must be named, and is called anew."""
        lane = state.lane
        if asks_routes and lane.router.placed != NONE:
            place(state, lane.router.placed, True)
            lane.router.placed = NONE
            changed = True
        while True:
            while next_arrival_s(state, lane.now) <= lane.now:
                changed = True
                arrive(state)
                if asks_routes and lane.router.asked != NONE:
                    return
            if not state.params.exits or not let_leave(state):
                break
            changed = True
        if state.params.has_overdue:
            move_overdue(state)
        wake_servers(state, changed, timer)

    @part
    def begin_instant(state: State, time):
        """Let the server events of the instant ``time`` happen; whether anything changed."""
        lane = state.lane
        accrue(state, time)
        lane.now = time
        changed = False
        for s in range(state.params.num_servers):
            while state.servers[s].next_event <= time:
                changed |= server_event(state, s)
        return changed

    @part
    def advance(state: State):
        """Run events until a server must be asked (DECIDE) or named (ROUTE), or the run stops (DRAINED, HORIZON,
        NEED_MORE)."""
        lane, params = state.lane, state.params
        while True:
            changed, timer = True, math.inf
            if not asks_routes or lane.router.placed == NONE:
                if lane.waiting > 0:
                    while lane.turn < params.num_servers:
                        if may_ask(state, lane.turn):
                            lane.asked = lane.turn
                            return DECIDE
                        lane.turn += 1
                lane.asked = NONE
                start_servers(state)
                time = next_server_event(state)
                if not params.exits and arrivals_change_nothing(state):
                    arrive_before(state, time)
                if lane.next_arrival >= lane.loaded and not lane.final:
                    return NEED_MORE
                timer = next_timer(state)
                time = min(time, timer)
                if params.exits:
                    time = min(time, next_exit(state))
                time = min(time, next_arrival_s(state, time))
                if time == math.inf and lane.final == LAST:
                    return DRAINED
                if time > params.horizon:
                    accrue(state, params.horizon)
                    lane.now = params.horizon
                    cut_off(state)
                    return HORIZON
                if time == math.inf:
                    return DRAINED
                changed = begin_instant(state, time)
            end_instant(state, changed, timer)
            if asks_routes and lane.router.asked != NONE:
                return ROUTE

    return advance
