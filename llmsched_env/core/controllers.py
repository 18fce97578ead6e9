"""The two batch-size controllers of "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained
Dynamic Batching" (arXiv 2503.05248), one pair per bin and one for `any` (docs/reference/semantics.md, Controllers).

A controller lives in a BIN record; its parameters lie in the LANE record.
"""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import exposed
from llmsched_env.core.constants import L0_EVERY
from llmsched_env.core.peer_controllers import reset_peer

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
