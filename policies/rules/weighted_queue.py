"""MaxWeight over bins with the time of a batch in the weight: a rule of ten lines that imitates `network`."""

from __future__ import annotations

import numpy as np

from llmsched.policies.parameters import number
from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import set_tbt, tbt


@policy(
    "weighted-queue",
    engines=("batch",),
    params={"power": number(0.3, 0, 2, auto=(0, 0.15, 0.3, 0.5, 0.8)), "tbt": tbt()},
    controller=set_tbt,
    details=True,
)
def weighted_queue(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The bin with most waiting requests x (time of its batch)^power; size = its target (a rule read off network).

    It serves bins of long requests more often, in smaller batches, than longest-queue does.  With power 0 it is
    longest-queue.  Overdue requests are served when all bins are empty.
    """
    best, most = 0, -1.0
    for k in range(record.num_bins):
        weight = float(record.queue_length[k]) * record.batch_time[k] ** params[0]
        if weight > most or (weight == most and record.head_number[k] < record.head_number[best]):
            best, most = k, weight
    if record.queue_length[best] == 0:
        best = record.overdue
    return best, record.target[best]
