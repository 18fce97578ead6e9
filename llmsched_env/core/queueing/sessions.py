"""Sessions and closed loops: arrivals that wait for answers (docs/reference/semantics.md, 15).

The requests of a run lie in a plan; what has no arrival time of its own is released when another one ends.  A request
gets its number, and its row of State.requests, when it arrives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.layout import ENDS, NONE
from llmsched_env.core.queueing.heap import binary_heap, sooner, swap_entries

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

_rise, _sink = binary_heap(sooner, swap_entries)


@apart
def _schedule(lane, releases, number, at):
    """Put an entry into the heap: planned request ``number`` arrives, or request ``number + ENDS`` ends."""
    place = lane.releases
    releases[place].at, releases[place].request = at, number
    _rise(releases, releases, place)
    lane.releases += 1


@apart
def _take_first(lane, releases):
    """Take the first entry off the heap: (number, time)."""
    number, at = releases[0].request, releases[0].at
    lane.releases -= 1
    swap_entries(releases, 0, lane.releases)
    _sink(releases, releases, 0, lane.releases)
    return number, at


@apart
def _begin_session(lane, links, releases, time):
    """A client is free at ``time``: it takes the next session of the plan, if there is one."""
    while lane.next_session < lane.loaded and links[lane.next_session].first != lane.next_session:
        lane.next_session += 1
    if lane.next_session < lane.loaded:
        first = lane.next_session
        _schedule(lane, releases, first, time + links[first].think)
        lane.next_session += 1


@apart
def _release(lane, links, releases, i, time):
    """Request ``i`` ended at ``time``: what waits for that comes after its think time."""
    p = links[i].planned
    child = links[p].child
    while child != NONE:
        _schedule(lane, releases, child, time + links[child].think)
        child = links[child].sibling
    first = links[p].first
    links[first].left -= 1
    if lane.clients > 0 and links[first].left == 0:
        _begin_session(lane, links, releases, time)


@apart
def _next_release_s(lane, links, releases, limit):
    """When the next request arrives; inf: none does, as far as is known before ``limit``.

    Ends that are known and come before ``limit``, or are due by now, release what waits for them: until then nothing
    is started, so no other end can come between.
    """
    while lane.releases > 0 and releases[0].request < 0:
        if not (releases[0].at < limit or releases[0].at <= lane.now):
            break
        number, at = _take_first(lane, releases)
        _release(lane, links, releases, number + ENDS, at)
    if lane.releases > 0 and releases[0].request >= 0:
        return releases[0].at
    return math.inf


@part
def ends_now(state: State, i):
    """Request ``i`` ends now, for whatever reason."""
    lane = state.lane
    if lane.linked:
        _release(lane, state.links, state.releases, i, lane.now)


@apart
def will_end(lane, requests, members, releases, n):
    """Of the first ``n`` of ``members`` those that are there still complete: when they end is known already."""
    for m in range(n):
        i = members[m]
        if i >= 0:
            _schedule(lane, releases, i - ENDS, requests[i].completion)


@part
def next_arrival_s(state: State, limit):
    """When the next request arrives; inf: none does, in sessions as far as is known before ``limit``."""
    lane = state.lane
    if lane.linked:
        return _next_release_s(lane, state.links, state.releases, limit)
    return state.requests[lane.next_arrival].arrival if lane.next_arrival < lane.loaded else math.inf


@part
def is_released(state: State):
    """Whether a request is sure to arrive, where all servers are free."""
    return state.lane.releases > 0 if state.lane.linked else state.lane.next_arrival < state.lane.loaded


@apart
def take_planned(state: State):
    """The planned request that is due first becomes request ``lane.next_arrival``."""
    lane, params = state.lane, state.params
    i = lane.next_arrival
    p, at = _take_first(lane, state.releases)
    state.requests[i] = state.plan[p]
    request = state.requests[i]
    request.arrival = at
    request.key += params.key_rate * at
    if params.class_step > 0.0:
        request.key = min(request.key, params.class_step / 2.0) + params.class_step * request.slo_class
    state.links[i].planned = p
    if params.cached:
        state.chains[i] = state.plan_chains[p]
