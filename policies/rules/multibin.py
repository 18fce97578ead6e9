"""One bin after the other, each with its own batch size (the hybrid of the public multi-bin simulator)."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import choice, setting
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import set_tbt, tbt


@policy(
    "multibin",
    params={
        "select": choice("roundrobin", "longest", "oldest"),
        "cap": setting("max_batch"),
        "tbt": tbt(),
    },
    controller=set_tbt,
    memory=1,
)
def multibin(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The next bin in round robin, the longest or the oldest; size = its target (public multi-bin simulator).

    The search begins at the bin after the last one served, which ``memory[0]`` holds (after the
    overdue queue at bin 0).  Of two bins of equal length the
    one with the older head is served.  ``cap`` bounds the size.  Overdue requests are served when all bins
    are empty.
    """
    bins, best = record.num_bins, -1
    for step in range(bins):
        k = (int(memory[0]) + step) % bins
        if record.queue_length[k] == 0:
            continue
        if best < 0:
            best = k
            if params[0] == 0:
                break
        longer = record.queue_length[k] - record.queue_length[best] if params[0] == 1 else 0
        if longer > 0 or (longer == 0 and record.head_number[k] < record.head_number[best]):
            best = k
    if best < 0:
        best = record.overdue
    memory[0] = (best + 1) % bins if best < bins else 0
    return best, int(min(record.target[best], params[1]))
