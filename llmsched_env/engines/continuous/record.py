"""The decision record in the engine `continuous`: the same fields, and the running set of the asked server."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.latency import prefill_s, step_s
from llmsched_env.core.layout import NONE
from llmsched_env.core.queueing.queues import any_row, first_row, head, length_of_any, overdue_row
from llmsched_env.core.view.observation import squash_log
from llmsched_env.core.view.record import OVERDUE_S, write_bin, write_controller, write_lane
from llmsched_env.engines.continuous.admission import group_of, waiting_for
from llmsched_env.engines.continuous.controllers import server_target
from llmsched_env.engines.continuous.segments import blocks_after


@part
def write_record(state, record, details):
    """Fill ``record`` for the server that is asked, or server 0 when nobody is; costly fields only with ``details``."""
    lane = state.lane
    s = max(lane.asked, 0)
    server = state.servers[s]
    write_lane(state, record)
    record.continuous = 1
    record.waiting = waiting_for(state, s)
    record.running = server.running
    record.decoding = server.decoding
    record.kv_used = BLOCK_TOKENS * blocks_after(server, server.boundary)
    record.prefill_left = server.backlog
    group = group_of(lane, s)
    row = group * lane.rows
    for k in range(lane.num_bins):
        write_bin(state, record, k, head(state, row + k), state.bins[row + k].length)
        write_controller(record, k, state.bins[k], server_target(lane, state.bins[k], server), server)
    first = head(state, first_row(state, group)) if record.waiting > 0 else NONE
    write_bin(state, record, lane.num_bins, first, length_of_any(state, group))
    pooled = state.bins[any_row(lane)]
    write_controller(record, lane.num_bins, pooled, server_target(lane, pooled, server), server)
    if lane.has_overdue:
        overdue, own = overdue_row(lane, group), state.bins[overdue_row(lane, 0)]
        write_bin(state, record, record.overdue, head(state, overdue), state.bins[overdue].length)
        write_controller(record, record.overdue, own, server_target(lane, own, server), server)
    if details:
        write_details(state, record, server)


@part
def write_details(state, record, server):
    """Predicted time and slack of every head if it joined the asked server now, and the load of every server."""
    lane = state.lane
    for s in range(lane.num_servers):
        record.busy[s] = busy_s(state.servers[s])
    for k in range(lane.num_bins + 1 + lane.has_overdue):
        if record.queue_length[k] == 0:
            record.batch_time[k] = 0.0
            record.slack[k] = math.inf
        else:
            record.batch_time[k] = join_time(lane, server, record.head_prompt[k], record.head_predicted[k])
            record.slack[k] = record.head_deadline[k] - lane.now - record.batch_time[k]


@part
def busy_s(server):
    """Predicted time until the members of ``server`` are done, on average, at the present step time; 0: idle."""
    if server.running == 0:
        return 0.0
    b = max(server.decoding, 1)
    step = step_s(server, b, server.context)
    return max(step * server.promised / server.running, OVERDUE_S)


@part
def join_time(lane, server, prompt, predicted):
    """Predicted service time of a request that joins ``server`` now, were its running set to stay as it is."""
    size = float(prompt)
    steps = predicted - 1.0
    step = step_s(server, server.decoding + 1.0, server.context + size + 0.5 * predicted)
    return lane.overhead * predicted + prefill_s(server, size, size * size) + steps * step


@part
def write_running(record, out, at):
    """Write the entries engine.RUNNING of the observation into ``out`` from ``at`` on."""
    cap = float(record.max_batch)
    out[at] = record.running / cap
    out[at + 1] = record.decoding / cap
    out[at + 2] = min(record.kv_used / record.kv_tokens, 1.0)
    out[at + 3] = squash_log(record.prefill_left, 20.0)
