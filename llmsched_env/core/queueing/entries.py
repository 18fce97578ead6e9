"""Small rows, a part of layout.py: entries of the heaps by time, links between the requests of a plan, the log."""

from __future__ import annotations

import numpy as np

EXPIRY = np.dtype([("at", "f8"), ("request", "i4")], align=True)
"""When a request becomes overdue.  A heap, soonest first."""

RELEASE = np.dtype([("at", "f8"), ("request", "i4")], align=True)
"""When a planned request arrives, or (number - ENDS) when one ends.  A heap, soonest first."""

ENDS = 2**30

LINK = np.dtype(  # request p of the plan, in sessions and closed loops (docs/reference/semantics.md, 15)
    [
        ("think", "f8"),  # s from the end that releases it to its arrival
        ("child", "i4"),  # first of the requests that its end releases, or NONE
        ("sibling", "i4"),  # next one that the same end releases, or NONE
        ("first", "i4"),  # the first request of its session
        ("left", "i4"),  # of the first request of a session: its requests that have not ended
        ("planned", "i4"),  # by number of arrival, not by place in the plan: the planned request that is request i
    ],
    align=True,
)

BATCH = np.dtype(  # the log, one row per batch
    [
        ("server", "i4"),
        ("choice", "i4"),
        ("size", "i4"),
        ("preemptions", "i4"),
        ("start", "f8"),
        ("end", "f8"),
        ("kv_peak", "f8"),
    ],
    align=True,
)
