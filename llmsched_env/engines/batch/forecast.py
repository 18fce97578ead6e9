"""What would be served now: the predicted service time of the first batch of every choice.

The times of FIFO bins come from one walk along the queues, since an agent is asked for them at every decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.layout import NONE
from llmsched_env.core.queueing.queues import merged
from llmsched_env.engines.batch.formation import NOTHING_TAKEN, add_to, fits, look_fifo, look_keyed
from llmsched_env.engines.batch.service_time import NO_WORK, add_work, batch_time, work_of

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def head_batch_time(state: State, choice, size):
    """Predicted service time on the asked server of the first ``size`` requests of ``choice``, s."""
    lane = state.lane
    hardware = state.hardware[max(lane.asked, 0)]
    n = look_keyed(state, choice, size, hardware) if state.params.keyed else look_fifo(state, choice, size, hardware)
    return batch_time(state, hardware, n, work_of(state, n))


@part
def fifo_batch_times(state: State, record):
    """Write ``record.batch_time`` of every FIFO queue; return that of `any`, or -1.0 where it needs the merged order.

    `any` takes all that wait when its target and the memory allow it: then the order does not matter.
    """
    lane, params = state.lane, state.params
    hardware = state.hardware[max(lane.asked, 0)]
    whole = record.queue_length[params.num_bins] <= record.target[params.num_bins]
    first_merged, end_merged = merged(state, 0)
    n_all, work_all, taken_all, need_all = 0, NO_WORK, NOTHING_TAKEN, 0
    for row in range(params.rows):
        k = row if row < params.num_bins else record.overdue
        n, work, taken, need, closed = 0, NO_WORK, NOTHING_TAKEN, 0, False
        record.batch_time[k] = 0.0
        i = state.bins[row].head
        while i != NONE:
            if not closed and (n == record.target[k] or not fits(state, hardware, i, n, taken)):
                record.batch_time[k] = batch_time(state, hardware, n, work)
                closed = True
            if closed and not (whole and first_merged <= row < end_merged):
                break
            request = state.requests[i]
            n += 1
            work, taken = add_work(request, work), add_to(taken, hardware, request)
            need = max(need, request.prompt + request.generated + 1)
            i = request.next
        if not closed:
            record.batch_time[k] = batch_time(state, hardware, n, work)
        if not first_merged <= row < end_merged:
            continue
        n_all, need_all = n_all + n, max(need_all, need)
        taken_all = (taken_all[0] + taken[0], taken_all[1] + taken[1])
        work_all = (
            work_all[0] + work[0],
            work_all[1] + work[1],
            max(work_all[2], work[2]),
            max(work_all[3], work[3]),
        )
    fit = taken_all[0] <= hardware.eta and need_all <= hardware.eta
    if whole and fit and (n_all == 1 or taken_all[1] <= params.max_tokens):
        return batch_time(state, hardware, n_all, work_all)
    return -1.0
