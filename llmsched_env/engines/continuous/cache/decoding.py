"""Blocks of the members that decode: iterations are composed one after the other, when somebody looks.

A member takes a block every 16 iterations.  Members stand in 16 lists by the iteration in which they do, each in
order of admission; POOL.ready is the first iteration that is not composed yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.layout import NONE
from llmsched_env.engines.continuous.cache.stays import hold, key_of, name_blocks

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


LAST_SEAT = 2**62
"""Above the number of every seat."""


@part
def _list_of(chain):
    return (chain.lead - 1) % BLOCK_TOKENS


@part
def enter_list(state: State, s, i, base):
    """Request ``i`` decodes from now on: in iteration k it has ``base`` + k tokens of context."""
    pool, chain = state.pools[s], state.chains[i]
    chain.lead = base
    k = _list_of(chain)
    before = pool.tail[k]
    while before != NONE and state.chains[before].seat > chain.seat:
        before = state.chains[before].prev
    after = pool.head[k] if before == NONE else state.chains[before].next
    chain.prev, chain.next = before, after
    if before == NONE:
        pool.head[k] = i
    else:
        state.chains[before].next = i
    if after == NONE:
        pool.tail[k] = i
    else:
        state.chains[after].prev = i


@part
def leave_list(state: State, s, i):
    """Request ``i`` decodes no more."""
    pool, chain = state.pools[s], state.chains[i]
    k = _list_of(chain)
    if chain.prev == NONE:
        pool.head[k] = chain.next
    else:
        state.chains[chain.prev].next = chain.next
    if chain.next == NONE:
        pool.tail[k] = chain.prev
    else:
        state.chains[chain.next].prev = chain.prev


@part
def first_to_take(pool, iteration):
    """First of the members whose newest token is the first of a block in ``iteration``, or NONE."""
    return pool.head[(-iteration) % BLOCK_TOKENS]


@part
def blocks_in(state: State, i, iteration):
    """Blocks that decoding request ``i`` has in ``iteration``."""
    return (state.chains[i].lead + iteration + BLOCK_TOKENS - 1) // BLOCK_TOKENS


@part
def name_between(state: State, s, iteration, after, before):
    """The decoding members of server ``s`` with a seat above ``after`` and below ``before`` name the blocks that are
    full in ``iteration``, as far as they know."""
    known = iteration - state.params.ahead  # the newest token is still under way
    i = state.pools[s].head[(BLOCK_TOKENS - 1 - known) % BLOCK_TOKENS]
    while i != NONE and state.chains[i].seat < before:
        if state.chains[i].seat > after:
            name_blocks(state, s, i, (state.chains[i].lead + known) // BLOCK_TOKENS)
        i = state.chains[i].next


@part
def name_in(state: State, s, iteration):
    """All decoding members of server ``s`` do."""
    name_between(state, s, iteration, 0, LAST_SEAT)


@part
def want_name(state: State, s, i, tokens):
    """Request ``i``, with ``tokens`` to prefill, was refused: note what it lacks, and when ``s`` will have it."""
    pool, lacked = state.pools[s], state.chains[i].found
    if lacked < min(state.chains[i].keyed, (tokens - 1) // BLOCK_TOKENS):
        pool.lacked, pool.lacked_key = lacked, key_of(state, i, lacked)
        await_name(state, s)


@part
def await_name(state: State, s):
    """Find the iteration in which a decoding member of server ``s`` names the block that a refused request lacks."""
    pool, slots = state.pools[s], state.slots[s]
    pool.wanted = NONE
    if pool.lacked == NONE:
        return
    for place in range(state.servers[s].set.decoding):
        j = slots[place].request
        chain = state.chains[j]
        iteration = BLOCK_TOKENS * (pool.lacked + 1) + state.params.ahead - chain.lead
        if not chain.named <= pool.lacked < chain.keyed or iteration >= slots[place].finish:
            continue
        if key_of(state, j, pool.lacked) == pool.lacked_key:
            pool.wanted = iteration if pool.wanted == NONE else min(pool.wanted, iteration)


@part
def compose_until(state: State, s, iteration):
    """Compose the iterations before ``iteration`` that are not yet; all that members ask for is free."""
    pool = state.pools[s]
    while pool.ready < iteration:
        i = first_to_take(pool, pool.ready)
        while i != NONE:
            hold(state, s, i, blocks_in(state, i, pool.ready))
            i = state.chains[i].next
        name_in(state, s, pool.ready)
        pool.ready += 1
