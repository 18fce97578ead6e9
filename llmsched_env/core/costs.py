"""What a schedule costs while time passes: requests in the system, and SLO misses at the instant they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.layout import DROPPED
from llmsched_env.core.queueing.sessions import ends_now

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def accrue(state: State, until):
    """Let time pass from now to ``until`` (nothing happens in between)."""
    lane = state.lane
    elapsed = until - lane.now
    state.counts.holding += elapsed * (lane.waiting + lane.in_service)
    if state.params.track:
        state.counts.tardiness += elapsed * lane.past_deadline
        for c in range(len(state.slos)):
            slo = state.slos[c]
            slo.next_ttft = _sweep(state, c, slo.next_ttft, slo.ttft, until, True)
            slo.next_e2e = _sweep(state, c, slo.next_e2e, slo.e2e, until, False)


@part
def _sweep(state: State, c, i, target, until, ttft):
    """Charge the requests of class ``c`` from number ``i`` on whose deadline passes by ``until``."""
    lane, requests = state.lane, state.requests
    while i < lane.next_arrival and requests[i].arrival + target <= until:
        request = requests[i]
        if not state.params.stamps_ahead and request.arrival + target == until:
            break  # stamps of this instant are set after time has passed, and would meet it
        i += 1
        if request.slo_class != c or request.missed:
            continue
        deadline = request.arrival + target
        stamp = request.first_token if ttft else request.completion
        if not stamp <= deadline:  # NaN: not yet
            charge(state, request)
            lane.past_deadline += 1
            state.counts.tardiness += until - deadline
    return i


@part
def charge(state: State, request):
    """Count one SLO miss, once per request."""
    request.missed = 1
    state.counts.misses += 1


@apart
def drop(state: State, i):
    """Request ``i`` was alone on its server and still did not fit: it leaves the system."""
    state.requests[i].status = DROPPED
    state.counts.dropped += 1
    miss_at_exit(state, state.requests[i])
    ends_now(state, i)


@part
def miss_at_exit(state: State, request):
    """``request`` leaves the system without its answer: a miss, unless its deadline was one before."""
    if state.params.track:
        if request.missed:
            state.lane.past_deadline -= 1
        else:
            charge(state, request)
