"""Engine `continuous`: which server may be asked, what a decision does, and what comes next on every server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.clock import clock, read_answer
from llmsched_env.core.layout import DECIDE, DECODING, IDLE, NONE
from llmsched_env.core.queueing.leaving import refuse_first
from llmsched_env.engines.continuous.admission import admit, has_slot
from llmsched_env.engines.continuous.ahead import note_composition, release
from llmsched_env.engines.continuous.cache.decoding import compose_until
from llmsched_env.engines.continuous.iterations import finish_segment, pass_iterations
from llmsched_env.engines.continuous.memory import room_at_start
from llmsched_env.engines.continuous.routing.rules import ASKED, group_of, route, waiting_for
from llmsched_env.engines.continuous.segments import (
    boundaries_by,
    boundary_s,
    first_boundary_from,
    plan_end,
    start_segment,
    stop_at_name,
)

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def server_event(state: State, s):
    """Server ``s`` stands at a boundary: of the end of its segment, or where it is to be asked."""
    server = state.servers[s]
    if server.next_event < server.end:
        server.next_event = server.end
        server.set.at_boundary = 1
        note_composition(state.params, server, server.set.boundary)
        return False
    return finish_segment(state, s)


@part
def plan_question(state: State, s, least):
    """Where server ``s`` decodes, wants to be asked and may be: stop at its first boundary from now on.

    ``least`` 1: after now, because the decisions of this instant are made.  Returns whether a stop is planned.
    """
    lane, server = state.lane, state.servers[s]
    if server.next_event < server.end:
        return True
    if server.set.seen >= lane.events or waiting_for(state, s) == 0:
        return False
    k = first_boundary_from(server, lane.now, server.set.boundary + 1)
    if least == 1 and boundary_s(server, float(k)) <= lane.now:
        k += 1
    if k < server.set.planned:
        server.set.boundary = k
        server.next_event = boundary_s(server, float(k))
    return True


@part
def may_ask(state: State, s):
    """Whether server ``s`` is to be asked now."""
    lane, server = state.lane, state.servers[s]
    if server.set.seen >= lane.events or waiting_for(state, s) == 0:
        return False
    if not has_slot(state, server):
        if server.set.running > 0 or not server.set.composed:
            return False
        release(state, s)  # nothing can be composed ahead: the server is idle
    if server.set.running == 0:
        return lane.woken == 1
    if server.set.kind == DECODING and not server.set.at_boundary:
        plan_question(state, s, 0)
        if server.next_event > lane.now:
            return False
        server.next_event, server.set.at_boundary = server.end, 1  # the event came at a boundary
        note_composition(state.params, server, server.set.boundary)
    if server.set.kind == DECODING and server.set.at_boundary and state.params.cached:
        compose_until(state, s, server.set.iteration + server.set.boundary + 1)
    return server.set.kind == IDLE or server.set.at_boundary == 1


@part
def start_servers(state: State):
    """All questions of this instant are answered: servers start their next segment, or go on."""
    lane = state.lane
    lane.closed = 1
    for s in range(state.params.num_servers):
        server = state.servers[s]
        server.set.at_boundary = 0
        release(state, s)
        if server.set.running == 0:
            server.set.changed = 0
            lane.closed = 0
            continue
        if server.set.changed:
            start_segment(state, s)
            plan_end(server, room_at_start(state, s), state.slots[s][0].finish)
            if state.params.cached:
                state.pools[s].planned = server.set.planned
                stop_at_name(state, s)
        if server.set.kind == DECODING and has_slot(state, server) and not plan_question(state, s, 1):
            lane.closed = 0


@part
def cut_off(state: State):
    """The run ends now, inside segments."""
    for s in range(state.params.num_servers):
        server = state.servers[s]
        if server.set.kind != IDLE:
            k = boundaries_by(server, state.lane.now)
            if state.params.cached:
                compose_until(state, s, server.set.iteration + k + 1)
            if k > 0:
                pass_iterations(state, s, k)
            else:
                server.busy_s += state.lane.now - server.start


@part
def all_have_to_wait(state: State):
    """Whether no running set can take a member before the next server event, and no server must be named before."""
    return state.lane.closed == 1 and state.params.routing != ASKED


advance = clock(
    route=route,
    server_event=server_event,
    may_ask=may_ask,
    start_servers=start_servers,
    arrivals_change_nothing=all_have_to_wait,
    cut_off=cut_off,
    asks_routes=True,
)


@part
def park(state: State, s):
    """Server ``s`` was asked and admitted nothing: the next one is asked, or the same again, now that it is idle."""
    lane, server = state.lane, state.servers[s]
    if server.set.running == 0 and server.set.composed:
        release(state, s)
        return
    if not server.set.composed or lane.event_time <= server.set.known:
        server.set.seen = lane.events
    lane.turn = lane.asked + 1


@part
def apply(state: State, choice, size):
    """Carry out the pending decision; return DECIDE, or BAD_BIN / BAD_SIZE with nothing done."""
    s = state.lane.asked
    status, choice, size, waits = read_answer(state, choice, size, group_of(state.params, s))
    if status != DECIDE:
        return status
    if state.params.cached:
        state.pools[s].lacked = state.pools[s].wanted = NONE
    if size < 0:
        refuse_first(state, choice, -size, group_of(state.params, s))
        if state.params.cached:
            stop_at_name(state, s)
        return DECIDE
    admitted = 0 if waits else admit(state, s, choice, size)
    if admitted == 0:
        park(state, s)
        if state.params.cached:
            stop_at_name(state, s)
    return DECIDE
