"""Engine `batch`: the decision record, with the predicted times of the batches that could be launched now."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.controllers import current_target
from llmsched_env.core.layout import NONE
from llmsched_env.core.queueing.queues import any_row, first_row, head, length_of_any, overdue_row
from llmsched_env.core.view.record import OVERDUE_S, write_bin, write_controller, write_lane
from llmsched_env.engines.batch.forecast import fifo_batch_times, head_batch_time

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def write_record(state: State, record, details):
    """Fill ``record`` for the server that is asked; the costly fields only with ``details``.

    Also works when no server is asked (the end of an episode): then for server 0.
    """
    lane, params = state.lane, state.params
    write_lane(state, record)
    record.continuous = 0
    for k in range(params.num_bins):
        write_bin(state, record, k, head(state, k), state.bins[k].length)
        write_controller(record, k, state.bins[k], current_target(state, state.bins[k]), state.bins[k])
    first = head(state, first_row(state, 0)) if lane.waiting > 0 else NONE
    k, row = params.num_bins, any_row(params)
    write_bin(state, record, k, first, length_of_any(state, 0))
    write_controller(record, k, state.bins[row], current_target(state, state.bins[row]), state.bins[row])
    if params.has_overdue:
        k, row = record.overdue, overdue_row(params, 0)
        write_bin(state, record, k, head(state, row), state.bins[row].length)
        write_controller(record, k, state.bins[row], current_target(state, state.bins[row]), state.bins[row])
    if details:
        write_details(state, record)


@part
def write_details(state: State, record):
    """The fields that look into the queues: predicted time and slack of every head batch, load of every server."""
    lane, params = state.lane, state.params
    for s in range(params.num_servers):
        server = state.servers[s]
        record.busy[s] = 0.0 if server.end == math.inf else max(server.predicted_end - lane.now, OVERDUE_S)
    of_any = -1.0 if params.keyed else fifo_batch_times(state, record)
    for k in range(params.num_bins + 1 + params.has_overdue):
        if record.queue_length[k] == 0:
            record.batch_time[k] = 0.0
            record.slack[k] = math.inf
        else:
            if params.keyed or (k == params.num_bins and of_any < 0.0):
                record.batch_time[k] = head_batch_time(state, k, record.target[k])
            elif k == params.num_bins:
                record.batch_time[k] = of_any
            record.slack[k] = record.head_deadline[k] - lane.now - record.batch_time[k]
