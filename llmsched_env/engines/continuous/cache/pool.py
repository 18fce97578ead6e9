"""The blocks of a server: who refers to them, what they are named, and in which order free ones are taken.

Blocks that have the same fate are one EXTENT: blocks of one hash (or of one request) that follow each other, to which
the same members refer and which became free together.  An extent is cut where a member finds, or names, a part of it.
What it holds is that of its blocks one by one (docs/reference/continuous.md, 11):

* A block is named by the key of its extent and its place.  The extents of a bucket stand in a list; of those that
  cover the same place the one that was named first stands first.
* Free extents stand in a queue; in it the blocks of an extent stand last one first, as a member gives them back.
* Free blocks without a name tell nothing: they are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmsched_env.compiler.parts import apart, part
from llmsched_env.core.layout import NONE

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

NO_END = 2**31 - 1
"""Behind every place."""


@part
def in_use(pool):
    """Blocks that a member refers to."""
    return float(pool.total - pool.free)


@part
def _bucket(buckets, key):
    return np.int64(key & np.uint64(len(buckets) - 1))


@part
def cover(extents, buckets, key, place):
    """The extent that was named first of those with block ``place`` of ``key``, or NONE; and where its turn ends."""
    e, end = buckets[_bucket(buckets, key)] - 1, NO_END
    while e != NONE:
        extent = extents[e]
        if extent.key == key:
            if extent.start > place:
                end = min(end, extent.start)
            elif place < extent.start + extent.named:
                return e, min(end, extent.start + extent.named)
        e = extent.chain
    return NONE, place


@part
def enter_list(extents, buckets, e):
    """Extent ``e`` can be found from now on, after all others."""
    extent = extents[e]
    at = _bucket(buckets, extent.key)
    extent.listed, extent.chain = 1, NONE
    before = buckets[at] - 1
    if before == NONE:
        buckets[at] = e + 1
        return
    while extents[before].chain != NONE:
        before = extents[before].chain
    extents[before].chain = e


@part
def _leave_list(extents, buckets, e):
    extent = extents[e]
    at = _bucket(buckets, extent.key)
    before = buckets[at] - 1
    if before == e:
        buckets[at] = extent.chain + 1
        return
    while extents[before].chain != e:
        before = extents[before].chain
    extents[before].chain = extent.chain


@part
def _others_behind(extents, e, place, end):
    """Whether an extent behind ``e`` in its list has a named block of ``e``'s key from ``place`` to before ``end``."""
    key = extents[e].key
    other = extents[e].chain
    while other != NONE:
        x = extents[other]
        if x.key == key and x.start < end and place < x.start + x.named:
            return True
        other = x.chain
    return False


@part
def make_extent(pool, extents, key, start, length):
    """A new extent of ``length`` blocks to which one member refers; its row."""
    if pool.spare != NONE:
        e = pool.spare
        pool.spare = extents[e].next
    else:
        e = pool.fresh
        pool.fresh += 1
    extent = extents[e]
    extent.key, extent.start, extent.length = key, start, length
    extent.named, extent.refs, extent.listed = 0, 1, 0
    extent.rest = extent.cut_from = NONE
    return e


@part
def _discard(pool, extents, buckets, e):
    """Extent ``e`` has no block any more, and stands in no queue."""
    extent = extents[e]
    if extent.listed:
        _leave_list(extents, buckets, e)
    if extent.cut_from != NONE:
        extents[extent.cut_from].rest = NONE
    if extent.rest != NONE:
        extents[extent.rest].cut_from = NONE
    extent.next = pool.spare
    pool.spare = e


@apart
def cut_extent(pool, extents, e, blocks):
    """Cut off what is behind the first ``blocks`` blocks of extent ``e``; the row of the rest."""
    extent = extents[e]
    r = make_extent(pool, extents, extent.key, extent.start + blocks, extent.length - blocks)
    rest = extents[r]
    rest.refs = extent.refs
    rest.named = max(extent.named - blocks, 0)
    extent.length, extent.named = blocks, min(extent.named, blocks)
    rest.rest, rest.cut_from = extent.rest, e
    if extent.rest != NONE:
        extents[extent.rest].cut_from = r
    extent.rest = r
    if extent.listed and rest.named > 0:
        rest.listed = 1
        rest.chain, extent.chain = extent.chain, r
    if extent.refs == 0:  # its blocks are taken last one first
        rest.next, rest.prev = e, extent.prev
        if extent.prev == NONE:
            pool.oldest = r
        else:
            extents[extent.prev].next = r
        extent.prev = r
    return r


@part
def _leave_queue(pool, extents, e):
    before, after = extents[e].prev, extents[e].next
    if before == NONE:
        pool.oldest = after
    else:
        extents[before].next = after
    if after == NONE:
        pool.newest = before
    else:
        extents[after].prev = before


@part
def take(pool, extents, buckets, blocks):
    """Take ``blocks`` free blocks, which there are, from those without a name and then from the oldest others."""
    evicted = blocks - (pool.free - pool.kept)
    pool.free -= blocks
    if evicted <= 0:
        return
    pool.kept -= evicted
    pool.evicted += evicted
    while evicted > 0:
        e = pool.oldest
        extent = extents[e]
        less = min(evicted, extent.length)
        evicted -= less
        extent.length -= less
        extent.named = extent.length
        if extent.length == 0:
            _leave_queue(pool, extents, e)
            _discard(pool, extents, buckets, e)


@part
def refer(pool, extents, e):
    """One more member refers to extent ``e``, which is named."""
    extent = extents[e]
    if extent.refs == 0:
        _leave_queue(pool, extents, e)
        pool.kept -= extent.length
        pool.free -= extent.length
    extent.refs += 1


@part
def _release(pool, extents, buckets, e):
    """One member less refers to extent ``e``."""
    extent = extents[e]
    extent.refs -= 1
    if extent.refs > 0:
        return
    pool.free += extent.length
    pool.kept += extent.named
    extent.length = extent.named
    if extent.length == 0:
        _discard(pool, extents, buckets, e)
        return
    extent.next, extent.prev = NONE, pool.newest
    if pool.newest == NONE:
        pool.oldest = e
    else:
        extents[pool.newest].next = e
    pool.newest = e


@apart
def give_back(state: State, s, first, entries):
    """A member gives back its table, ``entries`` entries of State.tables from ``first`` on, last block first."""
    pool, extents, buckets = state.pools[s], state.extents[s], state.buckets[s]
    for at in range(first + entries - 1, first - 1, -1):
        e = state.tables[at].extent
        left = state.tables[at].blocks - extents[e].length
        while left > 0:
            e = extents[e].rest
            left -= extents[e].length
        while e != state.tables[at].extent:
            before = extents[e].cut_from
            _release(pool, extents, buckets, e)
            e = before
        _release(pool, extents, buckets, e)


@part
def name_next(pool, extents, buckets, e, most, findable):
    """Name the next blocks of extent ``e``, at most ``most`` of them; how many were.

    Where another extent behind it in its list has one of these blocks, what follows is cut off, and none is named.
    """
    extent = extents[e]
    blocks = min(most, extent.length - extent.named)
    if blocks == 0 or not findable:
        extent.named += blocks
        return blocks
    first = extent.start + extent.named
    if extent.listed and extent.chain != NONE and _others_behind(extents, e, first, first + blocks):
        cut_extent(pool, extents, e, extent.named)
        return 0
    extent.named += blocks
    if not extent.listed:
        enter_list(extents, buckets, e)
    return blocks
