"""Least slack first: the bin whose next batch is closest to missing its deadline."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Decision, Floats, Record, policy
from llmsched.policies.rules.grids import set_tbt, tbt


@policy("least-slack", params={"tbt": tbt()}, controller=set_tbt, details=True)
def least_slack(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> Decision:
    """The bin whose head would have the least slack in a batch launched now; size = its target (least laxity first).

    Slack = deadline of the head - now - predicted time of the batch.  Among equals, the older head comes first.
    Overdue requests are served when all bins are empty.
    """
    best = -1
    for k in range(record.num_bins):
        if record.queue_length[k] == 0:
            continue
        sooner = best < 0 or record.slack[k] < record.slack[best]
        if sooner or (record.slack[k] == record.slack[best] and record.head_number[k] < record.head_number[best]):
            best = k
    if best < 0:
        best = record.overdue
    return best, record.target[best]
