"""The decision record in the engine `continuous`: the same fields, and the running set of the asked server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.latency import prefill_s, step_s
from llmsched_env.core.layout import NONE
from llmsched_env.core.queueing.queues import any_row, first_row, head, length_of_any, overdue_row
from llmsched_env.core.view.observation import squash_log
from llmsched_env.core.view.record import OVERDUE_S, write_bin, write_controller, write_lane
from llmsched_env.engines.continuous.cache.stays import look_up, start_of
from llmsched_env.engines.continuous.controllers import server_target
from llmsched_env.engines.continuous.memory import need, to_prefill
from llmsched_env.engines.continuous.routing.rules import group_of, waiting_for

if TYPE_CHECKING:
    from llmsched_env.core.rows import State


@part
def write_record(state: State, record, details):
    """Fill ``record`` for the server that is asked, or server 0 when none is; costly fields only with ``details``."""
    lane, params = state.lane, state.params
    s = max(lane.asked, 0)
    server = state.servers[s]
    write_lane(state, record)
    record.continuous = 1
    record.waiting = waiting_for(state, s)
    record.running = server.set.running + server.set.leaving
    record.decoding = server.set.decoding
    record.kv_used = BLOCK_TOKENS * (need(state, s) + server.set.leaving_blocks)
    record.prefill_left = server.set.backlog
    record.prefix_cache = params.cached
    if params.cached:
        write_cache(state, record, s)
    group = group_of(params, s)
    row = group * params.rows
    for k in range(params.num_bins):
        write_bin(state, record, k, head(state, row + k), state.bins[row + k].length)
        write_controller(record, k, state.bins[k], server_target(params, state.bins[k], server), server.set)
    first = head(state, first_row(state, group)) if record.waiting > 0 else NONE
    write_bin(state, record, params.num_bins, first, length_of_any(state, group))
    pooled = state.bins[any_row(params)]
    write_controller(record, params.num_bins, pooled, server_target(params, pooled, server), server.set)
    if params.has_overdue:
        overdue, own = overdue_row(params, group), state.bins[overdue_row(params, 0)]
        write_bin(state, record, record.overdue, head(state, overdue), state.bins[overdue].length)
        write_controller(record, record.overdue, own, server_target(params, own, server), server.set)
    if details:
        write_details(state, record, server)


@part
def write_cache(state: State, record, s):
    """What the prefix cache of server ``s`` did so far, and what it holds."""
    pool = state.pools[s]
    record.cache_hit_rate = pool.cached / pool.looked_up if pool.looked_up > 0 else 0.0
    record.kv_kept = float(BLOCK_TOKENS * pool.kept)


@part
def cached_tokens(state: State, s, i):
    """Tokens of the waiting request ``i`` that it would find on server ``s``."""
    look_up(state, s, i, to_prefill(state.requests[i]))
    return start_of(state, i)


@part
def write_details(state: State, record, server):
    """Predicted time and slack of every head if it joined the asked server now, and the load of every server."""
    lane, params = state.lane, state.params
    hardware = state.hardware[max(lane.asked, 0)]
    for s in range(params.num_servers):
        record.busy[s] = busy_s(state.servers[s], state.hardware[s])
    for k in range(params.num_bins + 1 + params.has_overdue):
        if record.queue_length[k] == 0:
            record.batch_time[k] = 0.0
            record.slack[k] = math.inf
            record.head_cached[k] = 0
        else:
            prompt, predicted = record.head_prompt[k], record.head_predicted[k]
            record.head_cached[k] = cached_tokens(state, record.server, record.head_number[k]) if params.cached else 0
            record.batch_time[k] = join_time(params, hardware, server, prompt, predicted)
            record.slack[k] = record.head_deadline[k] - lane.now - record.batch_time[k]


@part
def busy_s(server, hardware):
    """Predicted time until the members of ``server`` are done, on average, at the present step time; 0: idle."""
    if server.set.running == 0:
        return 0.0
    b = max(server.set.decoding, 1)
    step = step_s(hardware, b, server.set.context)
    return max(step * server.set.promised / server.set.running, OVERDUE_S)


@part
def join_time(params, hardware, server, prompt, predicted):
    """Predicted service time of a request that joins ``server`` now, were its running set to stay as it is."""
    size = float(prompt)
    steps = predicted - 1.0
    step = step_s(hardware, server.set.decoding + 1.0, server.set.context + size + 0.5 * predicted)
    return params.overhead * predicted + prefill_s(hardware, size, size * size) + steps * step


@part
def write_running(record, out, at):
    """Write the entries engine.RUNNING, and perhaps engine.CACHED, of the observation into ``out`` from ``at`` on."""
    cap = float(record.max_batch)
    out[at] = record.running / cap
    out[at + 1] = record.decoding / cap
    out[at + 2] = min(record.kv_used / record.kv_tokens, 1.0)
    out[at + 3] = squash_log(record.prefill_left, 20.0)
    if record.prefix_cache:
        k = record.num_bins
        out[at + 4] = record.cache_hit_rate
        out[at + 5] = min(record.kv_kept / record.kv_tokens, 1.0)
        out[at + 6] = record.head_cached[k] / record.head_prompt[k] if record.queue_length[k] > 0 else 0.0
