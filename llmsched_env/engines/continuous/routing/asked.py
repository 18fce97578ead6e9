"""Routing as a decision: what a routing policy is told of an arriving request, and what its answer does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import BAD_SERVER, DECIDE, DECODING, NONE
from llmsched_env.engines.continuous.cache.decoding import compose_until
from llmsched_env.engines.continuous.record import cached_tokens
from llmsched_env.engines.continuous.routing.rules import kv_load
from llmsched_env.engines.continuous.segments import boundaries_by

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def read_loads(state: State):
    """Note the load of every server, unless the last reading is younger than PARAMS.load_age."""
    lane = state.lane
    if lane.now - lane.router.read_at < state.params.load_age:
        return
    lane.router.read_at = lane.now
    for s in range(state.params.num_servers):
        server = state.servers[s]
        server.read.waiting = server.waiting
        server.read.running = server.set.running
        server.read.kv_load = kv_load(state, s)
        server.read.sent = 0


@part
def write_arrival(state: State, record, i):
    """What the record says of the request ``i`` that has arrived; NONE: the run is over."""
    record.number = i
    record.prompt = record.predicted = record.slo_class = 0
    record.deadline = math.inf
    if i != NONE:
        request = state.requests[i]
        slo = state.slos[request.slo_class]
        record.prompt = request.prompt
        record.predicted = request.predicted
        record.slo_class = request.slo_class
        record.deadline = request.arrival + min(slo.ttft, slo.e2e)


@part
def held_tokens(state: State, s, i):
    """Tokens of the prompt of request ``i`` in the prefix cache of server ``s``, its present iteration composed."""
    server = state.servers[s]
    if server.set.kind == DECODING:
        compose_until(state, s, server.set.iteration + boundaries_by(server, state.lane.now) + 1)
    return cached_tokens(state, s, i)


@part
def write_route_record(state: State, record):
    """Fill ``record``, a row of ROUTE_RECORD, for the request whose server is to be named, if any."""
    lane, params = state.lane, state.params
    i = lane.router.asked
    read_loads(state)
    record.now = lane.now
    record.num_servers = params.num_servers
    record.max_batch = params.max_batch
    write_arrival(state, record, i)
    record.rate_fast = 1.0 / lane.gap_fast if lane.gap_fast > 0.0 else 0.0
    record.rate_slow = 1.0 / lane.gap_slow if lane.gap_slow > 0.0 else 0.0
    record.last_routed = lane.router.last
    record.prefix_cache = params.cached
    record.load_age = lane.now - lane.router.read_at
    for s in range(params.num_servers):
        read = state.servers[s].read
        record.waiting[s] = read.waiting
        record.running[s] = read.running
        record.kv_load[s] = read.kv_load
        record.sent[s] = read.sent
        record.cached[s] = held_tokens(state, s, i) if params.cached and i != NONE else 0
        record.kv_tokens[s] = state.hardware[s].eta
        record.fits[s] = record.prompt <= state.hardware[s].eta


@part
def apply_route(state: State, s):
    """Send the request that is asked about to server ``s``; return DECIDE, or BAD_SERVER with nothing done.

    Where its prompt exceeds the memory of that server, it goes to the next one by number that can hold it, and the
    answer counts as one of an empty choice.
    """
    lane, params = state.lane, state.params
    if s < 0 or s >= params.num_servers:
        return BAD_SERVER
    i = lane.router.asked
    request = state.requests[i]
    if request.prompt > state.hardware[s].eta:
        state.counts.empty_choices += 1
        while request.prompt > state.hardware[s].eta:
            s = (s + 1) % params.num_servers
    request.group = lane.router.last = s
    state.servers[s].read.sent += 1
    lane.router.asked, lane.router.placed = NONE, i
    return DECIDE
