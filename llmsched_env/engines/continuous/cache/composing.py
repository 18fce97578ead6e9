"""The composition of an iteration at the end of a segment with the prefix cache: members take and name their blocks.

One member after the other does, in order of admission.  Where no block is free a member leaves
(docs/reference/continuous.md, 11.6).  Without the cache blocks are only counted (running_set.make_room).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.layout import IN_SERVICE, NONE
from llmsched_env.engines.continuous.cache.decoding import (
    LAST_SEAT,
    await_name,
    blocks_in,
    first_to_take,
    name_between,
)
from llmsched_env.engines.continuous.cache.stays import hold, name_blocks
from llmsched_env.engines.continuous.memory import blocks_of, budget_left, chunk_of
from llmsched_env.engines.continuous.running_set import newest_leaves

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def _decoding_take(state: State, s, iteration, after, before):
    """Decoding members with a seat above ``after`` and below ``before`` take the block of their newest token.

    Returns whether any member had to leave.
    """
    pool, left = state.pools[s], False
    i = first_to_take(pool, iteration)
    while i != NONE and state.chains[i].seat < before:
        number, here = blocks_in(state, i, iteration), state.chains[i].seat > after
        while here and number - state.chains[i].held > pool.free:
            here, left = newest_leaves(state, s) != i, True
        if here:
            hold(state, s, i, number)
        i = state.chains[i].next
    return left


@part
def _prefilling_after(state: State, s, seat):
    """The first prefilling member of server ``s`` with a seat above ``seat``, or NONE."""
    i = state.servers[s].set.prefill_head
    while i != NONE and state.chains[i].seat <= seat:
        i = state.requests[i].next
    return i


@part
def _chunk_takes(state: State, s, i, used):
    """The prompt ``i`` takes the blocks of its chunk, behind chunks of ``used`` tokens.

    Returns the tokens of the chunk (0: it is not a member any more), and whether any member had to leave.
    """
    server, pool, left = state.servers[s], state.pools[s], False
    while state.requests[i].status == IN_SERVICE:
        chunk, done = chunk_of(state, server, i, budget_left(state.params, server) - used)
        blocks = blocks_of(int(done + chunk))
        missing = int(blocks) - state.chains[i].held
        if missing <= pool.free:
            server.set.prompt_blocks -= missing
            hold(state, s, i, int(blocks))
            return chunk, left
        newest_leaves(state, s)
        left = True
    return 0.0, left


@apart
def _take(state: State, s, iteration):
    """The members of server ``s`` take the blocks of ``iteration``; whether any had to leave."""
    left, used, seat = False, 0.0, 0
    i = _prefilling_after(state, s, seat)
    while i != NONE:
        before = state.chains[i].seat
        left |= _decoding_take(state, s, iteration, seat, before)
        chunk, gone = _chunk_takes(state, s, i, used)
        left |= gone
        used += chunk
        seat = before
        i = _prefilling_after(state, s, seat)
    return _decoding_take(state, s, iteration, seat, LAST_SEAT) or left


@apart
def _name(state: State, s, iteration):
    """The members of server ``s`` name the blocks that are full in ``iteration``.

    With asynchronous scheduling decoding ones did so when their last token came: before the composition.
    """
    server, used, seat = state.servers[s], 0.0, 0
    if state.params.ahead:
        name_between(state, s, iteration, 0, LAST_SEAT)
    i = server.set.prefill_head
    while i != NONE:
        before = state.chains[i].seat
        if not state.params.ahead:
            name_between(state, s, iteration, seat, before)
        chunk, done = chunk_of(state, server, i, budget_left(state.params, server) - used)
        name_blocks(state, s, i, int(done + chunk) // BLOCK_TOKENS)
        used += chunk
        seat = before
        i = state.requests[i].next
    if not state.params.ahead:
        name_between(state, s, iteration, seat, LAST_SEAT)


@part
def compose(state: State, s):
    """The members of server ``s`` take the blocks of the next iteration, then name those that are full."""
    server, pool = state.servers[s], state.pools[s]
    iteration = server.set.iteration
    left = _take(state, s, iteration)
    _name(state, s, iteration)
    if left and pool.wanted > iteration:  # perhaps by the member that left
        await_name(state, s)
    pool.ready = iteration + 1
    server.set.quiet = left and (server.set.running > 0 or state.params.ahead)
