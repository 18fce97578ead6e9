"""Segments of the engine `continuous`: the iterations of a server between two changes, in closed form.

The k-th iteration of a segment takes iteration_s + growth_s (k - 1), because the context of every decoding member
grows by a token: its boundaries are known without running it (docs/reference/continuous.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.latency import mixed_s, noise_factor, piece_steps, prefill_s, step_piece_s
from llmsched_env.core.layout import DECODING, IDLE, NONE, PREFILLING
from llmsched_env.engines.continuous.memory import ENDLESS, budget_left, chunk_of, iterations_that_fit

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def boundary_s(server, k):
    """Time of the ``k``-th boundary of the segment."""
    return server.start + (k * server.set.iteration_s + server.set.growth_s * (0.5 * (k * (k - 1.0))))


@part
def first_boundary_from(server, time, least):
    """Number of the first boundary at or after ``time``, at least ``least`` and at most the last one."""
    span, base, half = time - server.start, server.set.iteration_s, 0.5 * server.set.growth_s
    if server.set.planned <= least:
        return server.set.planned
    # half k^2 + (base - half) k = span, in the form that survives half -> 0
    b = base - half
    root = math.sqrt(max(b * b + 4.0 * half * span, 0.0))
    guess = 2.0 * span / (b + root) if b + root > 0.0 else 0.0
    k = min(max(int(guess), least), server.set.planned)
    while k < server.set.planned and boundary_s(server, k) < time:
        k += 1
    while k > least and boundary_s(server, k - 1) >= time:
        k -= 1
    return k


@part
def boundaries_by(server, time):
    """How many boundaries of the segment lie at or before ``time``."""
    if server.set.planned == 0:
        return 0
    k = first_boundary_from(server, time, 1)
    while k < server.set.planned and boundary_s(server, k + 1) <= time:
        k += 1
    return k if boundary_s(server, k) <= time else k - 1


@part
def chunks(state: State, server):
    """Work of the next iteration's chunks: their number, their tokens and their attention (done and chunk squared)."""
    n, tokens, squares = 0, 0.0, 0.0
    left = budget_left(state.params, server)
    i = server.set.prefill_head
    while i != NONE and left > 0.0:
        chunk, done = chunk_of(state, server, i, left)
        n += 1
        tokens += chunk
        squares += (done + chunk) * (done + chunk) - float(done) * done
        left -= chunk
        i = state.requests[i].next
    return n, tokens, squares


@part
def start_segment(state: State, s):
    """Plan the iterations of server ``s``, which has members, from now until something changes."""
    params = state.params
    lane, server, hardware = state.lane, state.servers[s], state.hardware[s]
    factor = noise_factor(hardware.noise_sigma, lane.noise_key, state.counts.segments)
    state.counts.segments += 1
    server.start, server.set.boundary, server.set.changed = lane.now, 0, 0
    b = server.set.decoding
    if server.set.prefilling > 0:
        _, tokens, squares = chunks(state, server)
        if b == 0 or params.prefill_first:
            duration = prefill_s(hardware, tokens, squares)
        else:
            duration = mixed_s(hardware, b, server.set.context, tokens, squares)
        server.set.kind, server.set.planned, server.set.growth_s = PREFILLING, 1, 0.0
        server.set.iteration_s = (params.overhead + duration) * factor
    else:
        base, slope, end = step_piece_s(hardware, b, server.set.context)
        server.set.kind = DECODING
        server.set.iterations_in_piece = piece_steps(end, 0, ENDLESS, server.set.context, b)
        server.set.iteration_s = (params.overhead + base + slope * server.set.context) * factor
        server.set.growth_s = slope * b * factor


@part
def plan_end(server, room, first_finish):
    """End of the segment just started, with ``room`` (memory.room_at_start); ``first_finish``: the iteration that gives
    the first last token."""
    if server.set.kind == DECODING:
        fitting = min(first_finish - server.set.iteration, iterations_that_fit(server, room))
        server.set.planned = min(fitting, server.set.iterations_in_piece)
    server.end = server.next_event = boundary_s(server, float(server.set.planned))


@part
def stop_at_name(state: State, s):
    """End the segment of server ``s``, which decodes, where a member names what a refused request lacks."""
    server, pool = state.servers[s], state.pools[s]
    if server.set.kind == DECODING:
        server.set.planned = pool.planned
        if pool.wanted > server.set.iteration:  # else it is over, or there is none
            server.set.planned = min(pool.planned, pool.wanted - server.set.iteration)
        server.end = server.next_event = boundary_s(server, float(server.set.planned))


@part
def stop_segment(server):
    """No segment: the server is between two of them, or idle."""
    server.set.kind, server.set.planned, server.set.boundary = IDLE, 0, 0
    server.end = server.next_event = math.inf
