"""Iterations that are over (engine `continuous`): tokens, gaps between them, prompts, controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.itl import add_gap, add_run, add_stall
from llmsched_env.core.layout import DECODING, NONE, PREFILLING
from llmsched_env.engines.continuous.ahead import limit_chunks, note_composition
from llmsched_env.engines.continuous.cache.composing import compose
from llmsched_env.engines.continuous.cache.decoding import compose_until
from llmsched_env.engines.continuous.cache.pool import in_use
from llmsched_env.engines.continuous.controllers import feed_window
from llmsched_env.engines.continuous.memory import blocks_after, budget_left, chunk_of, prompt_blocks, to_prefill
from llmsched_env.engines.continuous.running_set import complete, end_decoding, finish_prefill, make_room
from llmsched_env.engines.continuous.segments import boundary_s, chunks, stop_segment

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def _count_gaps(state: State, s, k):
    """The gaps that ``k`` iterations of the segment end, for every decoding member."""
    server = state.servers[s]
    if not server.set.stalled:
        add_run(state, server.set.scored, server.set.iteration_s, server.set.growth_s, k)
        return
    end = boundary_s(server, 1.0)
    others, i = server.set.scored, server.set.fresh
    while i != NONE:  # theirs began with their first token, that of the others with the last iteration
        others -= i >= state.lane.warmup
        add_stall(state, i, end - state.requests[i].last_token)
        i = state.requests[i].next
    add_gap(state, others, end - server.set.last_step)
    add_run(state, server.set.scored, server.set.iteration_s + server.set.growth_s, server.set.growth_s, k - 1)


@part
def pass_iterations(state: State, s, k):
    """The first ``k`` >= 1 iterations of the segment of server ``s`` are over, now."""
    counts = state.counts
    lane, server = state.lane, state.servers[s]
    b = server.set.decoding
    prompts = 0
    if server.set.kind == PREFILLING:
        prompts, _, _ = chunks(state, server)
        if not state.params.cached:
            taken = prompt_blocks(state, server)
            server.set.prompt_blocks -= taken
            server.set.blocks += taken
    elif state.params.cached:
        compose_until(state, s, server.set.iteration + k)
    server.busy_s += lane.now - server.start
    if b > 0:
        server.set.window_time += lane.now - server.start
    counts.batches += k
    counts.launched += prompts
    if b == 0 or (server.set.kind == PREFILLING and state.params.prefill_first):
        server.set.stalled = b > 0 or server.set.stalled
    else:
        _count_gaps(state, s, k)
        counts.launched += k * b
        server.set.window_steps += k
        server.set.window_members += k * b
        if not state.params.cached:
            server.set.blocks = blocks_after(server, k)
        server.set.iteration += k
        server.set.context += k * b
        server.set.promised -= k * b
        server.set.last_step, server.set.stalled, server.set.fresh = lane.now, 0, NONE
    if state.params.cached:
        server.set.blocks = in_use(state.pools[s])
    server.peak_ever = max(server.peak_ever, BLOCK_TOKENS * server.set.blocks)
    log_segment(state, s, b + prompts)


@part
def log_segment(state: State, s, size):
    """Append the segment that ends now, ``size`` sequences in each iteration, to the log while there is room."""
    counts = state.counts
    lane, server = state.lane, state.servers[s]
    if counts.logged >= len(state.log):
        return
    row = state.log[counts.logged]
    row["size"] = size
    row.server, row.choice, row.start, row.end = s, NONE, server.start, lane.now
    row.preemptions = 0
    row.kv_peak = BLOCK_TOKENS * server.set.blocks
    counts.logged += 1


@part
def _advance_prompts(state: State, s, left):
    """The chunks of the iteration that ends now, of ``left`` tokens in all, are prefilled."""
    server = state.servers[s]
    i = server.set.prefill_head
    while i != NONE and left > 0.0:
        chunk, done = chunk_of(state, server, i, left)
        left -= chunk
        following = state.requests[i].next
        if done + chunk == to_prefill(state.requests[i]):
            finish_prefill(state, s, i)
        else:
            state.requests[i].prefilled = int(done + chunk)
            server.set.backlog -= chunk
        i = following


@part
def finish_segment(state: State, s):
    """The segment of server ``s`` ends now; whether a member completed or left."""
    lane, server = state.lane, state.servers[s]
    before = lane.events
    prefilled, left = server.set.kind == PREFILLING, budget_left(state.params, server)
    note_composition(state.params, server, server.set.planned)
    pass_iterations(state, s, server.set.planned)
    stop_segment(server)
    while server.set.decoding > 0 and state.slots[s][0].finish == server.set.iteration:
        i, tokens = end_decoding(state, s, 0)
        complete(state, s, i, tokens)
    if prefilled:
        _advance_prompts(state, s, left)
        server.set.seen = NONE
    if server.set.prefilling > 0:
        limit_chunks(state, s, True)
    if state.params.cached:
        compose(state, s)
        if state.pools[s].wanted == server.set.iteration:
            server.set.seen = NONE
    else:
        make_room(state, s)
    feed_window(state, server)
    server.set.at_boundary = server.set.changed = 1
    return lane.events > before


@part
def cut(state: State, s):
    """End the segment of server ``s`` at the boundary where it stands, because its running set is about to change."""
    server = state.servers[s]
    if server.set.kind == DECODING:
        pass_iterations(state, s, server.set.boundary)
        stop_segment(server)
        feed_window(state, server)
    server.set.changed = 1
