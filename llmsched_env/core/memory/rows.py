"""The rows of a prefix cache: requests, blocks and servers as it sees them (docs/reference/continuous.md, 11)."""

from __future__ import annotations

import numpy as np

from llmsched_env.core.constants import BLOCK_TOKENS

CHAIN = np.dtype(  # a request as the prefix cache sees it (docs/reference/continuous.md, 11)
    [
        ("hashes", "i8"),  # place of its first hash in State.hashes
        ("keyed", "i4"),  # its blocks that hashes cover wholly
        ("span", "i4"),  # blocks that a hash covers
        ("own", "i8"),  # makes the key of its other blocks: a number that no other request has
        ("table", "i8"),  # place of its first entry in State.tables
        ("entries", "i4"),  # entries of its table
        ("held", "i4"),  # blocks that it refers to
        ("last", "i4"),  # the extent that it took a block of last
        ("named", "i4"),  # blocks that are named, the first ones
        ("name_entry", "i4"),  # ... the next is in this entry,
        ("name_extent", "i4"),  # ... in this extent of it, or it begins behind that,
        ("name_done", "i4"),  # ... behind so many blocks of the entry
        ("found", "i4"),  # blocks that it found at its last admission, or would find
        ("cached", "i8"),  # tokens that it found, over all admissions
        ("lead", "i8"),  # while it decodes: context - iteration
        ("seat", "i8"),  # number of its last admission
        ("next", "i4"),  # in its list of decoding members, or NONE
        ("prev", "i4"),
    ],
    align=True,
)

POOL = np.dtype(  # the blocks of a server
    [
        ("total", "i4"),
        ("free", "i4"),  # blocks that no member refers to
        ("kept", "i4"),  # ... of which this many have a name
        ("spare", "i4"),  # first row of EXTENT that was used and is not, or NONE
        ("fresh", "i4"),  # first row that was never used
        ("oldest", "i4"),  # ends of the queue of free extents, or NONE
        ("newest", "i4"),
        ("seats", "i8"),  # admissions so far
        ("ready", "i8"),  # first iteration that is not composed yet
        ("planned", "i8"),  # iterations of the segment if nobody waits for a name
        ("lacked", "i4"),  # block that the request lacks which was refused last, or NONE
        ("lacked_key", "u8"),  # ... its key
        ("wanted", "i8"),  # iteration in which a member names a block with this key, or NONE
        ("head", "i4", (BLOCK_TOKENS,)),  # decoding members, lists by (context - 1 - iteration) mod 16, or NONE
        ("tail", "i4", (BLOCK_TOKENS,)),
        ("looked_up", "i8"),  # tokens, over all admissions
        ("cached", "i8"),
        ("recomputed", "i8"),
        ("evicted", "i8"),  # blocks
    ],
    align=True,
)

EXTENT = np.dtype(  # blocks of one hash, or of one request, that follow each other and have the same fate
    [
        ("key", "u8"),  # of the hash, or of the request
        ("start", "i4"),  # place of its first block in that
        ("length", "i4"),  # blocks
        ("named", "i4"),  # ... of which this many are named, the first ones
        ("refs", "i4"),  # members that refer to it
        ("listed", "i4"),  # 1: it can be found
        ("next", "i4"),  # in the queue of free extents, or among the spare rows, or NONE
        ("prev", "i4"),
        ("chain", "i4"),  # next extent in the same bucket, or NONE
        ("rest", "i4"),  # the extent that was cut off behind it, or NONE
        ("cut_from", "i4"),  # ... and back
    ],
    align=True,
)

ENTRY = np.dtype([("extent", "i4"), ("blocks", "i4")], align=True)
"""Of a member's table: an extent, and how many blocks of it and of those that were cut off it the member refers to."""
