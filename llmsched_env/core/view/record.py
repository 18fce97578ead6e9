"""The decision record: everything a scheduler may know, written from the state (no true output length is read)."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.clock import can_wait
from llmsched_env.core.controllers import current_target
from llmsched_env.core.layout import NONE
from llmsched_env.core.queues import (
    first_bin,
    head,
    length_of_any,
    merged,
    oldest_waiting,
    pop,
    precedes,
    unpop,
    would_mix,
)
from llmsched_env.engines.batch.forecast import fifo_batch_times
from llmsched_env.engines.batch.formation import fits
from llmsched_env.engines.batch.prediction import batch_time, sums

OVERDUE_S = 1e-3
"""Predicted remaining time of a server that is busy for longer than was predicted."""


@part
def write_record(state, record, details):
    """Fill ``record`` for the server that is asked; the costly fields only with ``details``.

    Also works when nobody is asked (the end of an episode): then for server 0.
    """
    lane = state.lane
    write_lane(state, record)
    for k in range(lane.num_bins):
        write_bin(state, record, k, head(state, k), state.bins[k].length)
        write_controller(record, k, state.bins[k], current_target(lane, state.bins[k]), state.bins[k])
    first = head(state, first_bin(state, 0)) if lane.waiting > 0 else NONE
    k = lane.num_bins
    write_bin(state, record, k, first, length_of_any(state, 0))
    write_controller(record, k, state.bins[k], current_target(lane, state.bins[k]), state.bins[k])
    if details:
        write_details(state, record)


@part
def write_lane(state, record):
    """The fields that exist once, for the server that is asked."""
    lane = state.lane
    server = state.servers[max(lane.asked, 0)]
    record.now = lane.now
    record.num_bins = lane.num_bins
    record.late_bin = lane.num_bins - 1 if lane.late_bin else NONE
    record.num_servers = lane.num_servers
    record.server = max(lane.asked, 0)
    record.max_batch = lane.max_batch
    record.continuous = lane.continuous
    record.can_wait = can_wait(state)
    record.at_tick = lane.at_tick
    record.free_servers = lane.free
    record.waiting = lane.waiting
    record.in_service = lane.in_service
    oldest = oldest_waiting(state)
    record.oldest_arrival = state.requests[oldest].arrival if oldest != NONE else math.inf
    record.last_arrival = lane.last_arrival
    record.rate_fast = 1.0 / lane.gap_fast if lane.gap_fast > 0.0 else 0.0
    record.rate_slow = 1.0 / lane.gap_slow if lane.gap_slow > 0.0 else 0.0
    record.completed = lane.completed
    record.slo_ttft = state.slos[0].ttft
    record.slo_tpot = state.slos[0].tpot
    record.slo_e2e = state.slos[0].e2e
    record.kv_tokens = server.eta
    record.server_batches = server.batches
    record.last_size = server.last_size
    record.last_service = server.last_service
    record.last_e2e = server.last_e2e
    record.last_kv_share = server.last_kv_share
    reserved = 0.0
    for s in range(lane.num_servers):
        reserved += state.servers[s].reserved / state.servers[s].eta
    record.kv_reserved_share = reserved / lane.num_servers


@part
def write_bin(state, record, k, i, length):
    """Queue ``k`` of the record: ``length`` requests wait there and ``i`` is the first, or NONE."""
    record.queue_length[k] = length
    record.head_number[k] = i
    if i == NONE:
        record.head_arrival[k] = math.inf
        record.head_deadline[k] = math.inf
        record.head_prompt[k] = 0
        record.head_predicted[k] = 0
    else:
        request = state.requests[i]
        slo = state.slos[request.slo_class]
        record.head_arrival[k] = request.arrival
        record.head_deadline[k] = request.arrival + min(slo.ttft, slo.e2e)
        record.head_prompt[k] = request.prompt + request.generated
        record.head_predicted[k] = request.predicted - request.generated


@part
def write_controller(record, k, row, target, sla):
    """Controllers of choice ``k``: memory in the BIN ``row``; ``sla`` has tau, mean_batch, low and high."""
    record.target[k] = target
    record.low[k] = sla.low
    record.high[k] = sla.high
    record.tau[k] = sla.tau
    record.mean_batch[k] = sla.mean_batch
    record.mean_tokens[k] = row.mean_l


@part
def write_details(state, record):
    """The fields that look into the queues: predicted time and slack of every head batch, load of every server."""
    lane = state.lane
    for s in range(lane.num_servers):
        server = state.servers[s]
        record.busy[s] = 0.0 if server.end == math.inf else max(server.predicted_end - lane.now, OVERDUE_S)
    merged = -1.0 if lane.keyed else fifo_batch_times(state, record)
    for k in range(lane.num_bins + 1):
        if record.queue_length[k] == 0:
            record.batch_time[k] = 0.0
            record.slack[k] = math.inf
        else:
            if lane.keyed or (k == lane.num_bins and merged < 0.0):
                record.batch_time[k] = head_batch_time(state, k, record.target[k])
            elif k == lane.num_bins:
                record.batch_time[k] = merged
            record.slack[k] = record.head_deadline[k] - lane.now - record.batch_time[k]


@part
def collect_fifo(state, choice, size, server):
    """Put the first requests of FIFO bin ``choice`` (K: the merge of all) that one batch would admit into ``members``.

    Nothing moves: cursors walk along the bins.  Returns how many.
    """
    lane = state.lane
    n, reserved, tokens = 0, 0.0, 0.0
    first, last = merged(state, 0) if choice == lane.num_bins else (choice, choice + 1)
    for k in range(first, last):
        state.cursors[k] = state.bins[k].head
    while n < size:
        best = NONE
        for k in range(first, last):
            i = state.cursors[k]
            if i != NONE and (best == NONE or precedes(state, i, state.cursors[best])):
                best = k
        if best == NONE:
            break
        i = state.cursors[best]
        if not fits(state, server, i, n, reserved, tokens):
            break
        state.members[n] = i
        n += 1
        reserved += min(state.requests[i].prompt + state.requests[i].predicted, server.eta)
        tokens += state.requests[i].predicted
        state.cursors[best] = state.requests[i].next
    return n


@part
def collect_keyed(state, choice, size, server):
    """The same for bins that are heaps: the first ones are taken out and put back."""
    lane = state.lane
    n, reserved, tokens = 0, 0.0, 0.0
    while n < size and lane.waiting > 0:
        k = first_bin(state, 0) if choice == lane.num_bins else choice
        i = head(state, k)
        if i == NONE or would_mix(state, i, n, state.members[0]):
            break
        if not fits(state, server, i, n, reserved, tokens):
            break
        pop(state, k)
        state.members[n] = i
        n += 1
        reserved += min(state.requests[i].prompt + state.requests[i].predicted, server.eta)
        tokens += state.requests[i].predicted
    for m in range(n - 1, -1, -1):
        unpop(state, state.members[m])
    return n


@part
def head_batch_time(state, choice, size):
    """Predicted service time on the asked server of the first ``size`` requests of bin ``choice`` (K: any)."""
    lane = state.lane
    server = state.servers[max(lane.asked, 0)]
    n = collect_keyed(state, choice, size, server) if lane.keyed else collect_fifo(state, choice, size, server)
    prompts, squares, guess, total = sums(state, n)
    return batch_time(state, server, n, prompts, squares, guess, total)
