"""The blocks of a server: who refers to them, what they are named, and in which order free ones are taken.

A free block without a name lies on a stack (``next``), one with a name in a queue (``next``, ``prev``); those from
POOL.fresh on were never used.  A named block is found through State.buckets, lists of the first block of every name;
the others of its name follow it (``twin``) in the order in which they were named.  A name that nobody can look for at
present is UNLISTED: it only says that the block has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import NONE

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

UNLISTED = np.uint64(1)
"""A key that no block has (stays.key_of)."""


@part
def in_use(pool):
    """Blocks that a member refers to."""
    return float(pool.total - pool.free)


@part
def _place(buckets, key):
    return np.int64(key & np.uint64(len(buckets) - 1))


@part
def find(blocks, buckets, key):
    """The first block of name ``key``, or NONE."""
    b = buckets[_place(buckets, key)] - 1
    while b != NONE and blocks[b].key != key:
        b = blocks[b].chain
    return b


@part
def give_name(blocks, buckets, b, key):
    """Block ``b``, which has no name, is named ``key``, after all others of this name."""
    first = find(blocks, buckets, key)
    block = blocks[b]
    block.key, block.twin, block.twin_before = key, NONE, NONE
    if first == NONE:
        place = _place(buckets, key)
        block.chain, block.twin_last = buckets[place] - 1, b
        buckets[place] = b + 1
        return
    last = blocks[first].twin_last
    blocks[last].twin, block.twin_before = b, last
    blocks[first].twin_last = b


@part
def name_unlisted(blocks, b):
    """Block ``b``, which has no name, gets one that nobody can look for at present."""
    blocks[b].key = UNLISTED


@part
def _take_name(blocks, buckets, b):
    """Block ``b`` leaves the list of its name."""
    block = blocks[b]
    twin, before = block.twin, block.twin_before
    if before != NONE:
        blocks[before].twin = twin
        if twin == NONE:
            blocks[find(blocks, buckets, block.key)].twin_last = before
        else:
            blocks[twin].twin_before = before
    else:
        place = _place(buckets, block.key)
        follower = block.chain
        if twin != NONE:
            blocks[twin].twin_before = NONE
            blocks[twin].twin_last, blocks[twin].chain = block.twin_last, block.chain
            follower = twin
        ahead = buckets[place] - 1
        if ahead == b:
            buckets[place] = follower + 1
        else:
            while blocks[ahead].chain != b:
                ahead = blocks[ahead].chain
            blocks[ahead].chain = follower


@part
def _leave_queue(pool, blocks, b):
    """Named block ``b`` is not free any more."""
    pool.kept -= 1
    before, after = blocks[b].prev, blocks[b].next
    if before == NONE:
        pool.oldest = after
    else:
        blocks[before].next = after
    if after == NONE:
        pool.newest = before
    else:
        blocks[after].prev = before


@part
def take(pool, blocks, buckets):
    """Take a free block (there is one) for one member; return its number."""
    if pool.unnamed != NONE:
        b = pool.unnamed
        pool.unnamed = blocks[b].next
    elif pool.fresh < pool.total:
        b = pool.fresh
        pool.fresh += 1
        blocks[b].key = np.uint64(0)
    else:
        b = pool.oldest
        _leave_queue(pool, blocks, b)
        if blocks[b].key != UNLISTED:
            _take_name(blocks, buckets, b)
        blocks[b].key = np.uint64(0)
        pool.evicted += 1
    blocks[b].refs = 1
    pool.free -= 1
    return b


@part
def refer(pool, blocks, b):
    """One more member refers to the named block ``b``."""
    if blocks[b].refs == 0:
        _leave_queue(pool, blocks, b)
        pool.free -= 1
    blocks[b].refs += 1


@part
def give_back(state: State, s, first, number):
    """A member gives back its table, ``number`` entries of State.tables from ``first`` on, last block first."""
    pool, blocks = state.pools[s], state.blocks[s]
    for at in range(first + number - 1, first - 1, -1):
        b = state.tables[at]
        block = blocks[b]
        block.refs -= 1
        if block.refs > 0 or block.key == 0:
            continue
        pool.free += 1
        pool.kept += 1
        block.next, block.prev = NONE, pool.newest
        if pool.newest == NONE:
            pool.oldest = b
        else:
            blocks[pool.newest].next = b
        pool.newest = b
    for at in range(first, first + number):  # none is shared that has no name
        b = state.tables[at]
        if blocks[b].key == 0:
            blocks[b].next = pool.unnamed
            pool.unnamed = b
            pool.free += 1
