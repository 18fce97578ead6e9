"""The composition of an iteration at the end of a segment with the prefix cache: members take and name their blocks.

Where no block is free the newest member leaves (docs/reference/continuous.md, 11.6).  Without the cache blocks are only
counted (running_set.make_room).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.layout import NONE
from llmsched_env.engines.continuous.cache.decoding import await_name, blocks_in, first_to_take, name_in
from llmsched_env.engines.continuous.cache.stays import hold, name_blocks
from llmsched_env.engines.continuous.memory import blocks_of, budget_left
from llmsched_env.engines.continuous.running_set import newest_leaves
from llmsched_env.engines.continuous.segments import chunk_of

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def _decoding_take(state: State, s, iteration):
    """Decoding members take the block of their newest token; whether any member had to leave."""
    pool, left = state.pools[s], False
    i = first_to_take(pool, iteration)
    while i != NONE:
        number, here = blocks_in(state, i, iteration), True
        while here and number - state.chains[i].held > pool.free:
            here, left = newest_leaves(state, s) != i, True
        if here:
            hold(state, s, i, number)
        i = state.chains[i].next
    return left


@part
def _end_of_chunk(state: State, s, i):
    """Tokens of the prompt ``i`` that are prefilled after the next iteration."""
    server = state.servers[s]
    chunk, done = chunk_of(state, server, i, budget_left(state.params, server))
    return int(done + chunk)


@part
def compose(state: State, s):
    """The members of server ``s`` take the blocks of the next iteration, then name those that are full."""
    server, pool = state.servers[s], state.pools[s]
    iteration = server.set.iteration
    left = _decoding_take(state, s, iteration)
    i, end = server.set.prefill_head, 0  # at a boundary one prompt at most is prefilled in part
    while i != NONE and server.set.prefill_head == i:
        end = _end_of_chunk(state, s, i)
        missing = int(blocks_of(end)) - state.chains[i].held
        if missing <= pool.free:
            server.set.prompt_blocks -= missing
            hold(state, s, i, int(blocks_of(end)))
            break
        newest_leaves(state, s)
        left = True
    name_in(state, s, iteration)
    if left and pool.wanted > iteration:  # perhaps by the member that left
        await_name(state, s)
    if i != NONE and server.set.prefill_head == i:
        name_blocks(state, s, i, end // BLOCK_TOKENS)
    pool.ready = iteration + 1
    server.set.quiet = left and (server.set.running > 0 or state.params.ahead)
