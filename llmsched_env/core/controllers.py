"""The two batch-size controllers of "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained
Dynamic Batching" (arXiv 2503.05248), one pair per bin and one for `any` (docs/reference/semantics.md, Controllers).

A controller lives in a BIN record; its parameters lie in the LANE record.
"""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import exposed
from llmsched_env.core.constants import L0_EVERY
from llmsched_env.core.peer_controllers import reset_peer, update_peer_memory, update_peer_sla

ROUNDING = 1e-9
"""What a quotient that should be whole may lack: lengths that are all alike would else lose a request to rounding."""


@exposed
def reset_controller(lane, row):
    """State before the first completed batch: memory target max_batch, SLA midpoint."""
    row.batches = 0
    row.mean_l = row.mean_l2 = row.buffer = 0.0
    row.memory_target = lane.max_batch
    row.memory_updates = row.decode_seen = row.sla_updates = 0
    row.tau = row.mean_batch = 0.0
    row.low, row.high = lane.b_min, lane.max_batch
    if lane.peer:
        reset_peer(lane, row)
    set_target(lane, row)


@exposed
def set_target(lane, row):
    """Target = min of the memory and the SLA target, from b_min to max_batch."""
    sla = math.floor((row.low + row.high) / 2.0)
    row.target = int(min(max(min(sla, row.memory_target), lane.b_min), lane.max_batch))


@exposed
def current_target(lane, row):
    """Batch size that a scheduler reads; in the peer's variant at least what is in service on all servers."""
    if lane.peer:
        return max(row.target, min(lane.in_service, lane.max_batch))
    return row.target


@exposed
def gaussian_batch(mean, variance, theta, eta):
    """Largest b with b mu + theta sqrt(b s2) <= eta (Algorithm 1's closed form), a float."""
    spread = theta * math.sqrt(variance)
    return ((math.sqrt(spread * spread + 4.0 * mean * eta) - spread) / (2.0 * mean)) ** 2


@exposed
def update_memory(lane, row, size, sum_l, sum_l2, steps, weight):
    """Algorithm 1, when ``size`` >= 1 requests completed whose total lengths sum to ``sum_l`` (squares ``sum_l2``).

    ``steps`` > 0: decode work was seen; ``weight`` of these completions in the averages.
    """
    row.mean_l += weight * (sum_l / size - row.mean_l)
    row.mean_l2 += weight * (sum_l2 / size - row.mean_l2)
    if steps > 0:
        row.decode_seen = 1
    if not row.decode_seen:
        return
    row.decode_seen = 0
    if lane.eta_min == math.inf:
        row.memory_target = lane.max_batch
        return
    if row.memory_updates % L0_EVERY == 0:
        variance = max(0.0, row.mean_l2 - row.mean_l * row.mean_l)
        row.buffer = lane.eta_min - row.mean_l * gaussian_batch(row.mean_l, variance, lane.theta, lane.eta_min)
    row.memory_updates += 1
    target = math.floor((lane.eta_min - row.buffer) / row.mean_l + ROUNDING)
    row.memory_target = min(max(target, lane.b_min), lane.max_batch)


@exposed
def update_sla(lane, row, steps, decode_s, member_steps, weight):
    """Algorithm 2, after ``steps`` >= 1 decode steps; ``weight`` of them in the averages.

    ``row`` has tau, mean_batch, low, high and sla_updates: a BIN, or in the engine `continuous` a SERVER.
    """
    row.sla_updates += 1
    row.tau += weight * (decode_s / steps - row.tau)
    row.mean_batch += weight * (member_steps / steps - row.mean_batch)
    mean, low, high = row.mean_batch, row.low, row.high
    if row.tau > lane.tbt + lane.eps:
        row.high = max(mean, low + lane.alpha)
        row.low = max(low - lane.delta, lane.b_min)
    elif row.tau < lane.tbt - lane.eps:
        row.low = min(mean, high - lane.alpha)
        row.high = min(high + lane.delta, lane.max_batch)
    else:
        row.high = min(mean + lane.alpha / 2.0, lane.max_batch)
        row.low = max(mean - lane.alpha / 2.0, lane.b_min)


@exposed
def feed(lane, row, server):
    """Update one controller with the batch that ``server`` has just completed."""
    if server.completing > 0:
        row.batches += 1
        if lane.peer:
            update_peer_memory(lane, row, server.completing, server.sum_l)
        else:
            weight = lane.ema if row.batches > 1 else 1.0
            update_memory(lane, row, server.completing, server.sum_l, server.sum_l2, server.steps, weight)
    if server.steps > 0:
        if lane.peer:
            update_peer_sla(lane, row, server.steps, server.decode_s, server.member_steps)
        else:
            weight = lane.ema if row.sla_updates > 0 else 1.0
            update_sla(lane, row, server.steps, server.decode_s, server.member_steps, weight)
    set_target(lane, row)


COMPLETION_WEIGHT = 0.1
"""Share of `ema` that a single completion weighs in the memory controller of the engine `continuous`."""


@exposed
def feed_completion(lane, row, length, output):
    """Update one memory controller with a completed request of ``length`` tokens in all, ``output`` of them decoded."""
    row.batches += 1
    weight = max(1.0 / row.batches, COMPLETION_WEIGHT * lane.ema)
    update_memory(lane, row, 1, length, length * length, output - 1, weight)


@exposed
def feed_window(lane, server):
    """Algorithm 2 for one server of the engine `continuous`, where its window is over and it has decoded in it."""
    if server.window_steps == 0.0 or lane.now - server.window_start < lane.window:
        return
    update_sla(lane, server, server.window_steps, server.window_time, server.window_members, 1.0)
    server.window_start = lane.now
    server.window_time = server.window_steps = server.window_members = 0.0


@exposed
def server_target(lane, row, server):
    """Batch size that a scheduler reads on ``server`` of the engine `continuous`: at least what decodes there."""
    sla = math.floor((server.low + server.high) / 2.0)
    target = max(min(sla, row.memory_target), lane.b_min, server.decoding)
    return int(min(target, lane.max_batch))
