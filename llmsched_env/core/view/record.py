"""The decision record: everything a scheduler may know, written from the state (no true output length is read).

What all engines have in common; each engine's ``record.py`` writes the rest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.clock import can_wait
from llmsched_env.core.layout import NONE
from llmsched_env.core.queueing.queues import oldest_waiting

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

OVERDUE_S = 1e-3
"""Predicted remaining time of a server that is busy for longer than was predicted."""


@part
def write_lane(state: State, record):
    """The fields that exist once, for the server that is asked."""
    lane, params = state.lane, state.params
    server = state.servers[max(lane.asked, 0)]
    record.now = lane.now
    record.num_bins = params.num_bins
    record.overdue = params.num_bins + 1 if params.has_overdue else NONE
    record.num_servers = params.num_servers
    record.server = max(lane.asked, 0)
    record.max_batch = params.max_batch
    record.can_wait = can_wait(state)
    record.at_tick = lane.at_tick
    record.free_servers = lane.free
    record.may_refuse = params.refusals
    record.patience = params.patience
    record.waiting = lane.waiting
    record.in_service = lane.in_service
    oldest = oldest_waiting(state)
    record.oldest_arrival = state.requests[oldest].arrival if oldest != NONE else math.inf
    record.last_arrival = lane.last_arrival
    record.rate_fast = 1.0 / lane.gap_fast if lane.gap_fast > 0.0 else 0.0
    record.rate_slow = 1.0 / lane.gap_slow if lane.gap_slow > 0.0 else 0.0
    record.completed = state.counts.completed
    record.slo_ttft = state.slos[0].ttft
    record.slo_tpot = state.slos[0].tpot
    record.slo_e2e = state.slos[0].e2e
    record.kv_tokens = state.hardware[max(lane.asked, 0)].eta
    record.server_batches = server.batches
    record.last_size = server.last_size
    record.last_service = server.last_service
    record.last_e2e = server.last_e2e
    record.last_kv_share = server.last_kv_share
    reserved = 0.0
    for s in range(params.num_servers):
        reserved += state.servers[s].reserved / state.hardware[s].eta
    record.kv_reserved_share = reserved / params.num_servers


@part
def write_bin(state: State, record, k, i, length):
    """Choice ``k`` of the record: ``length`` requests wait there and ``i`` is the first, or NONE."""
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
