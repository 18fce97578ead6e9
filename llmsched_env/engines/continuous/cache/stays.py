"""What a request does with blocks: it finds some, takes others, names them, and gives them back.

State.chains has a row for each request, State.tables the blocks that it refers to, State.hashes what its tokens are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.latency import mixed_bits
from llmsched_env.core.layout import NONE
from llmsched_env.engines.continuous.cache.pool import (
    cover,
    cut_extent,
    enter_list,
    give_back,
    make_extent,
    name_next,
    refer,
    take,
)

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

ODD = np.uint64(0x9E3779B97F4A7C15)
OWN = np.uint64(0xD1B54A32D192ED03)
"""Sets keys that a request has alone apart from those of hashes."""


@part
def own_key(chain):
    """Key of the blocks of a request that no hash covers."""
    return mixed_bits(np.uint64(chain.own) ^ OWN)


@part
def piece_of(state: State, i, j):
    """Block ``j`` of request ``i``: the key of its hash, or of the request; its place in that; blocks from it on."""
    chain = state.chains[i]
    if j >= chain.keyed:
        return own_key(chain), j, 2**30
    place = j % chain.span
    return (
        mixed_bits(np.uint64(state.hashes[chain.hashes + j // chain.span])),
        place,
        min(chain.span - place, chain.keyed - j),
    )


@part
def key_of(state: State, i, j):
    """A number for block ``j`` of request ``i`` that equal blocks have in common."""
    key, place, _ = piece_of(state, i, j)
    return mixed_bits(key + np.uint64(place + 1) * ODD)


@part
def look_up(state: State, s, i, tokens):
    """Find blocks of request ``i``, which has ``tokens`` to prefill, on server ``s``; return how many are free.

    Notes their number in CHAIN.found; it does not refer to them yet.
    """
    chain, extents, buckets = state.chains[i], state.extents[s], state.buckets[s]
    most, free, found = (tokens - 1) // BLOCK_TOKENS, 0, 0
    while found < most:
        key, place, left = piece_of(state, i, found)
        e, end = cover(extents, buckets, key, place)
        if e == NONE:
            break
        blocks = min(end - place, left, most - found)
        free += blocks * (extents[e].refs == 0)
        found += blocks
    chain.found = found
    return free


@part
def _enter(state: State, i, e, blocks):
    """Put ``blocks`` blocks from extent ``e`` on into the table of request ``i``."""
    chain = state.chains[i]
    entry = state.tables[chain.table + chain.entries]
    entry.extent, entry.blocks = e, blocks
    chain.entries += 1
    chain.held += blocks
    chain.last = e


@apart
def _refer_to_found(state: State, s, i):
    """Request ``i`` refers to the blocks that it found, CHAIN.found of them."""
    chain, pool, extents, buckets = state.chains[i], state.pools[s], state.extents[s], state.buckets[s]
    while chain.held < chain.found:
        key, place, left = piece_of(state, i, chain.held)
        e, end = cover(extents, buckets, key, place)
        blocks = min(end - place, left, chain.found - chain.held)
        if extents[e].start < place:
            e = cut_extent(pool, extents, e, place - extents[e].start)
        if extents[e].length > blocks:
            cut_extent(pool, extents, e, blocks)
        refer(pool, extents, e)
        _enter(state, i, e, blocks)


@part
def hold(state: State, s, i, number):
    """Request ``i`` takes blocks of server ``s`` until it refers to ``number`` of them."""
    chain, pool, extents = state.chains[i], state.pools[s], state.extents[s]
    if number <= chain.held:
        return
    take(pool, extents, state.buckets[s], number - chain.held)
    while chain.held < number:
        key, place, left = piece_of(state, i, chain.held)
        blocks = min(left, number - chain.held)
        if chain.entries > 0:
            last = extents[chain.last]
            if last.refs == 1 and last.key == key and last.start + last.length == place:
                last.length += blocks
                state.tables[chain.table + chain.entries - 1].blocks += blocks
                chain.held += blocks
                continue
        _enter(state, i, make_extent(pool, extents, key, place, blocks), blocks)


@part
def name_blocks(state: State, s, i, number):
    """Request ``i`` names its blocks on server ``s`` until ``number`` of them are named."""
    chain, pool, extents, buckets = state.chains[i], state.pools[s], state.extents[s], state.buckets[s]
    while chain.named < number:
        e = chain.name_extent
        if e != NONE and extents[e].named < extents[e].length:
            # nobody else looks for what it alone knows, and it does only after a preemption
            findable = chain.named < chain.keyed or extents[e].listed
            blocks = name_next(pool, extents, buckets, e, number - chain.named, findable)
            chain.named += blocks
            chain.name_done += blocks
            if blocks > 0:
                continue
        if e != NONE and chain.name_done < state.tables[chain.table + chain.name_entry].blocks:
            chain.name_extent = extents[e].rest
        else:
            chain.name_entry += 1
            chain.name_extent = state.tables[chain.table + chain.name_entry].extent
            chain.name_done = 0


@apart
def list_own_names(state: State, s, i):
    """Request ``i`` is preempted: from now on it may look for the blocks that it alone knows."""
    chain, extents, key = state.chains[i], state.extents[s], own_key(state.chains[i])
    for at in range(chain.table, chain.table + chain.entries):
        e, left = state.tables[at].extent, state.tables[at].blocks
        while left > 0:
            extent = extents[e]
            if extent.key == key and extent.named > 0 and not extent.listed:
                enter_list(extents, state.buckets[s], e)
            left -= extent.length
            e = extent.rest


@part
def begin_stay(state: State, s, i, tokens):
    """Request ``i`` is admitted to server ``s`` with ``tokens`` to prefill: it refers to the blocks that it found."""
    chain, pool = state.chains[i], state.pools[s]
    pool.seats += 1
    chain.seat = pool.seats
    chain.entries = chain.held = 0
    _refer_to_found(state, s, i)
    chain.named = chain.found
    chain.name_entry, chain.name_extent, chain.name_done = NONE, NONE, 0
    if chain.entries > 0:
        chain.name_entry, chain.name_extent = chain.entries - 1, chain.last
        chain.name_done = state.tables[chain.table + chain.name_entry].blocks
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
    give_back(state, s, chain.table, chain.entries)
    chain.entries = chain.held = chain.named = 0


@part
def start_of(state: State, i):
    """Tokens of request ``i`` that were found at its admission and are not prefilled."""
    return BLOCK_TOKENS * state.chains[i].found if state.params.cached else 0
