"""One lane as the kernels see it: the rows of the state arrays, side by side.

``lane`` a LANE record; ``bins`` (G R + 1,) BIN; ``servers`` (S,) SERVER; ``requests`` (N,) REQUEST;
``heap`` (G R, N) int32, request numbers of keyed bins ((1, 1) where bins are FIFO); ``slos`` (C,)
SLO_ROW; ``members`` (max_batch,) int32, room for the batch being formed; ``log`` (G,) BATCH, G = 0:
batches are not logged; ``gaps`` (ITL_BINS,) int64, histogram of the gaps between tokens (length 0: not kept);
``cursors`` (G R,) int32, scratch; ``slots`` (S, max_batch) SLOT, the decoding members of every server ((1, 1) in the
engine `batch`); ``expiry`` (N,) EXPIRY, when the waiting become overdue ((1,) where none does).  There
are G groups of R rows (queueing.queues): one group, or one of every server where arrivals are routed.
"""

from __future__ import annotations

from collections import namedtuple

State = namedtuple("State", "lane bins servers requests heap slos members log gaps cursors slots expiry")
