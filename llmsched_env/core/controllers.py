"""The two batch-size controllers of "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained
Dynamic Batching" (arXiv 2503.05248), one pair per bin and one for `any` (docs/reference/semantics.md, Controllers).

A controller lives in a BIN record; its parameters lie in the PARAMS record.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import L0_EVERY
from llmsched_env.core.peer_controllers import reset_peer

if TYPE_CHECKING:
    from llmsched_env.core.rows import State

ROUNDING = 1e-9
"""What a quotient that should be whole may lack: lengths that are all alike would else lose a request to rounding."""


@part
def reset_controller(params, row):
    """State before the first completed batch: memory target max_batch, SLA midpoint."""
    row.batches = 0
    row.mean_l = row.mean_l2 = row.buffer = 0.0
    row.memory_target = params.max_batch
    row.memory_updates = row.decode_seen = row.sla_updates = 0
    row.tau = row.mean_batch = 0.0
    row.low, row.high = params.b_min, params.max_batch
    if params.peer:
        reset_peer(params, row)
    set_target(params, row)


@part
def set_target(params, row):
    """Target = min of the memory and the SLA target, from b_min to max_batch."""
    sla = math.floor((row.low + row.high) / 2.0)
    row.target = int(min(max(min(sla, row.memory_target), params.b_min), params.max_batch))


@part
def current_target(state: State, row):
    """Batch size that a scheduler reads; in the peer's variant at least what is in service on all servers."""
    if state.params.peer:
        return max(row.target, min(state.lane.in_service, state.params.max_batch))
    return row.target


@part
def gaussian_batch(mean, variance, theta, eta):
    """Largest b with b mu + theta sqrt(b s2) <= eta (Algorithm 1's closed form), a float."""
    spread = theta * math.sqrt(variance)
    return ((math.sqrt(spread * spread + 4.0 * mean * eta) - spread) / (2.0 * mean)) ** 2


@part
def update_memory(params, row, size, sum_l, sum_l2, steps, weight):
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
    if params.eta_min == math.inf:
        row.memory_target = params.max_batch
        return
    if row.memory_updates % L0_EVERY == 0:
        variance = max(0.0, row.mean_l2 - row.mean_l * row.mean_l)
        row.buffer = params.eta_min - row.mean_l * gaussian_batch(row.mean_l, variance, params.theta, params.eta_min)
    row.memory_updates += 1
    target = math.floor((params.eta_min - row.buffer) / row.mean_l + ROUNDING)
    row.memory_target = min(max(target, params.b_min), params.max_batch)


@part
def update_sla(params, row, steps, decode_s, member_steps, weight):
    """Algorithm 2, after ``steps`` >= 1 decode steps; ``weight`` of them in the averages.

    ``row`` has tau, mean_batch, low, high and sla_updates: a BIN, or in the engine `continuous` a RUNNING_SET.
    """
    row.sla_updates += 1
    row.tau += weight * (decode_s / steps - row.tau)
    row.mean_batch += weight * (member_steps / steps - row.mean_batch)
    mean, low, high = row.mean_batch, row.low, row.high
    if row.tau > params.tbt + params.eps:
        row.high = max(mean, low + params.alpha)
        row.low = max(low - params.delta, params.b_min)
    elif row.tau < params.tbt - params.eps:
        row.low = min(mean, high - params.alpha)
        row.high = min(high + params.delta, params.max_batch)
    else:
        row.high = min(mean + params.alpha / 2.0, params.max_batch)
        row.low = max(mean - params.alpha / 2.0, params.b_min)
