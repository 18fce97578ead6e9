"""What a request does with blocks: it finds some, takes others, names them, and gives them back.

State.chains has a row for each request, State.tables the blocks that it refers to, State.hashes what its tokens are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.latency import mixed_bits
from llmsched_env.core.layout import NONE
from llmsched_env.engines.continuous.cache.pool import UNLISTED, find, give_back, give_name, name_unlisted, refer, take

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

ODD = np.uint64(0x9E3779B97F4A7C15)
OWN = np.uint64(0xD1B54A32D192ED03)
"""Sets keys that a request has alone apart from those of hashes."""


@part
def key_of(state: State, i, j):
    """Key of block ``j`` of request ``i``: of its hash and place in it, or its own; neither 0 nor UNLISTED."""
    chain = state.chains[i]
    if j < chain.keyed:
        seed, place = np.uint64(state.hashes[chain.hashes + j // chain.span]), j % chain.span
    else:
        seed, place = np.uint64(chain.own) ^ OWN, j
    return mixed_bits(mixed_bits(seed) + np.uint64(place + 1) * ODD) | np.uint64(2)


@part
def look_up(state: State, s, i, tokens):
    """Find blocks of request ``i``, which has ``tokens`` to prefill, on server ``s``; return how many are free.

    Notes them in its table and their number in CHAIN.found; it does not refer to them yet.
    """
    chain, blocks, buckets = state.chains[i], state.blocks[s], state.buckets[s]
    most, free, found = (tokens - 1) // BLOCK_TOKENS, 0, 0
    while found < most:
        b = find(blocks, buckets, key_of(state, i, found))
        if b == NONE:
            break
        state.tables[chain.table + found] = b
        free += blocks[b].refs == 0
        found += 1
    chain.found = found
    return free


@part
def hold(state: State, s, i, number):
    """Request ``i`` takes blocks of server ``s`` until it refers to ``number`` of them."""
    chain, pool = state.chains[i], state.pools[s]
    while chain.held < number:
        state.tables[chain.table + chain.held] = take(pool, state.blocks[s], state.buckets[s])
        chain.held += 1


@part
def name_blocks(state: State, s, i, number):
    """Request ``i`` names its blocks on server ``s`` until ``number`` of them are named."""
    chain = state.chains[i]
    while chain.named < number:
        b = state.tables[chain.table + chain.named]
        if chain.named < chain.keyed:
            give_name(state.blocks[s], state.buckets[s], b, key_of(state, i, chain.named))
        else:  # nobody else looks for it
            name_unlisted(state.blocks[s], b)
        chain.named += 1


@part
def list_own_names(state: State, s, i):
    """Request ``i`` is preempted: from now on it may look for the blocks that it alone knows."""
    chain = state.chains[i]
    for j in range(chain.keyed, chain.named):
        b = state.tables[chain.table + j]
        if state.blocks[s][b].key == UNLISTED:
            give_name(state.blocks[s], state.buckets[s], b, key_of(state, i, j))


@part
def begin_stay(state: State, s, i, tokens):
    """Request ``i`` is admitted to server ``s`` with ``tokens`` to prefill: it refers to the blocks that it found."""
    chain, pool = state.chains[i], state.pools[s]
    for j in range(chain.found):
        refer(pool, state.blocks[s], state.tables[chain.table + j])
    chain.held = chain.named = chain.found
    cached = BLOCK_TOKENS * chain.found
    chain.cached += cached
    pool.looked_up += tokens
    pool.cached += cached
    if state.requests[i].preemptions > 0:
        pool.recomputed += tokens - cached


@part
def end_stay(state: State, s, i):
    """Request ``i`` gives its blocks back to server ``s``."""
    chain = state.chains[i]
    give_back(state, s, chain.table, chain.held)
    chain.held = chain.named = 0


@part
def start_of(state: State, i):
    """Tokens of request ``i`` that were found at its admission and are not prefilled."""
    return BLOCK_TOKENS * state.chains[i].found if state.params.cached else 0
