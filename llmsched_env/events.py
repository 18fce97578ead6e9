"""The clock: which event comes next, what it does, and who is asked.

Order at one instant, written here and nowhere else: server events by server number (on one server its evictions,
then its completion), arrivals by request number, timers, decisions by server number.
"""

from __future__ import annotations

import math

from llmsched_env.batch_engine import launch
from llmsched_env.compiled import part
from llmsched_env.controllers import feed
from llmsched_env.deadlines import accrue, charge
from llmsched_env.layout import (
    BAD_BIN,
    BAD_SIZE,
    DECIDE,
    DRAINED,
    DROPPED,
    HORIZON,
    NEED_MORE,
    NONE,
    REJECTED,
    WAITING,
)
from llmsched_env.queues import oldest_waiting, push, push_returned


@part
def next_server_event(state):
    """Time of the first eviction or completion, inf when all servers are free."""
    time = math.inf
    for s in range(state.lane.num_servers):
        time = min(time, state.servers[s].next_event)
    return time


@part
def next_timer(state):
    """Time of the next hold timer or tick, inf when there is none; only while a server is free and something waits."""
    lane = state.lane
    time = math.inf
    if lane.free == 0 or lane.waiting == 0:
        return time
    if lane.hold < math.inf:
        due = state.requests[oldest_waiting(state)].arrival + lane.hold
        if due > lane.now:
            time = due
    if lane.tick < math.inf and not lane.tick_spent:
        lane.next_tick = int(math.floor(lane.now / lane.tick))
        while lane.next_tick * lane.tick <= lane.now:
            lane.next_tick += 1
        time = min(time, lane.next_tick * lane.tick)
    return time


@part
def can_wait(state):
    """Whether any event can come if all free servers are parked."""
    lane = state.lane
    if lane.free < lane.num_servers or lane.next_arrival < lane.loaded or not lane.final:
        return True
    return next_timer(state) < math.inf


@part
def evict(state, server):
    """The next member to leave the batch of ``server`` goes back to its bin."""
    i = server.evict_head
    server.evict_head = state.requests[i].next
    state.requests[i].status = WAITING
    state.requests[i].evictions += 1
    state.lane.in_service -= 1
    state.lane.evicted += 1
    push_returned(state, i)
    server.next_event = server.end if server.evict_head == NONE else state.requests[server.evict_head].last_token


@part
def drop(state, i):
    """Request ``i`` was alone on its server and still did not fit."""
    lane, request = state.lane, state.requests[i]
    request.status = DROPPED
    lane.dropped += 1
    lane.in_service -= 1
    if lane.track:
        if request.missed:
            lane.late_now -= 1
        else:
            charge(state, request)


@part
def complete(state, server):
    """The batch of ``server`` ends: its members are released, the controllers learn of it."""
    lane = state.lane
    lane.completed += server.completing
    lane.in_service -= server.completing
    lane.late_now -= server.late * lane.track
    lane.misses += server.tpot_misses
    if server.drop != NONE:
        drop(state, server.drop)
    feed(lane, state.bins[lane.num_bins], server)
    if server.choice < lane.num_bins:
        feed(lane, state.bins[server.choice], server)
    server.busy_s += server.end - server.start
    server.peak_ever = max(server.peak_ever, server.peak)
    server.batches += 1
    server.last_size = server.launched
    server.last_service = server.end - server.start
    server.last_e2e = server.worst_e2e
    server.last_kv_share = server.peak / server.eta
    server.end = server.next_event = server.predicted_end = math.inf
    server.reserved = 0.0
    server.batch = NONE
    lane.free += 1


@part
def arrive(state):
    """The next request arrives: rejected when it can fit nowhere, else it waits in its bin."""
    lane = state.lane
    i = lane.next_arrival
    request = state.requests[i]
    lane.next_arrival = i + 1
    if math.isnan(lane.last_arrival):
        lane.last_arrival = request.arrival
    else:
        gap = request.arrival - lane.last_arrival
        lane.last_arrival = request.arrival
        if math.isnan(lane.gap_fast):
            lane.gap_fast = lane.gap_slow = gap
        else:
            lane.gap_fast += (gap - lane.gap_fast) / 16.0
            lane.gap_slow += (gap - lane.gap_slow) / 256.0
    if request.prompt + 1.0 > lane.max_eta:
        request.status = REJECTED
        lane.rejected += 1
        charge(state, request)
        return
    request.status = WAITING
    push(state, i)


@part
def arrivals_before(state, limit):
    """Let all requests arrive that come before ``limit`` while every server is busy: nobody is asked."""
    lane = state.lane
    moved = False
    while lane.next_arrival < lane.loaded:
        time = state.requests[lane.next_arrival].arrival
        if not time < limit or time > lane.horizon:
            break
        accrue(state, time)
        lane.now = time
        arrive(state)
        moved = True
    if moved:
        lane.tick_spent = 0


@part
def happen(state, time):
    """All events of the instant ``time``, in order; afterwards every free server may be asked."""
    lane = state.lane
    accrue(state, time)
    lane.now = time
    changed = False
    for s in range(lane.num_servers):
        server = state.servers[s]
        while server.next_event <= time:
            changed = True
            if server.evict_head != NONE:
                evict(state, server)
            else:
                complete(state, server)
    while lane.next_arrival < lane.loaded and state.requests[lane.next_arrival].arrival <= time:
        changed = True
        arrive(state)
    lane.at_tick = lane.tick < math.inf and time == math.floor(time / lane.tick + 0.5) * lane.tick
    if lane.at_tick and lane.free > 0 and lane.waiting > 0:
        lane.tick_spent = 1
    elif changed:
        lane.tick_spent = 0
    lane.turn = 0


@part
def advance(state):
    """Run events until a server must be asked (DECIDE) or the run stops (DRAINED, HORIZON, NEED_MORE)."""
    lane = state.lane
    while True:
        if lane.waiting > 0 and lane.free > 0:
            while lane.turn < lane.num_servers:
                if state.servers[lane.turn].end == math.inf:
                    lane.asked = lane.turn
                    return DECIDE
                lane.turn += 1
        lane.asked = NONE
        time = next_server_event(state)
        if lane.free == 0:
            arrivals_before(state, time)
        if lane.next_arrival < lane.loaded:
            time = min(time, state.requests[lane.next_arrival].arrival)
        elif not lane.final:
            return NEED_MORE
        if lane.free > 0 and lane.waiting > 0:
            time = min(time, next_timer(state))
        if time > lane.horizon:
            accrue(state, lane.horizon)
            lane.now = lane.horizon
            return HORIZON
        if time == math.inf:
            return DRAINED
        happen(state, time)


@part
def apply(state, choice, size):
    """Carry out the pending decision; return DECIDE, or BAD_BIN / BAD_SIZE with nothing done."""
    lane = state.lane
    if choice < 0 or choice > lane.num_bins:
        return BAD_BIN
    if size < 0:
        return BAD_SIZE
    lane.decisions += 1
    if size == 0:
        if can_wait(state):
            lane.waits += 1
            lane.turn = lane.num_servers
            return DECIDE
        choice, size = lane.num_bins, lane.max_batch
    elif choice < lane.num_bins and state.bins[choice].length == 0:
        lane.empty_choices += 1
        choice = lane.num_bins
    launch(state, lane.asked, choice, min(size, lane.max_batch))
    lane.turn = lane.asked + 1
    return DECIDE
