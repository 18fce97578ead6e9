"""The controllers of the public multi-bin simulator (`controller=peer`), for comparison only.

They differ from the paper's (controllers.py): averages start at assumed values and are not corrected, bounds move by
fixed steps of 4 and 2 and are clamped once more, the memory buffer is a flat tenth, the first three updates do
nothing, and the requests in service on the whole cluster are a floor of every target.
"""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import apart, part

ASSUMED_TOKENS = 500.0
"""Prompt + output of a request before any has completed (300 + 200)."""

NEAR_STEP, FAR_STEP, QUIET_UPDATES = 4.0, 2.0, 3
BUFFER_SHARE = 0.1


@part
def reset_peer(params, row):
    """State before the first completed batch."""
    row.mean_l = ASSUMED_TOKENS
    row.mean_batch = math.floor((params.b_min + params.max_batch) / 2.0)
    row.memory_target = peer_memory_target(params, row)


@part
def peer_memory_target(params, row):
    """floor(0.9 eta / E[l]), from b_min to max_batch."""
    if params.eta_min == math.inf:
        return params.max_batch
    target = math.floor((1.0 - BUFFER_SHARE) * params.eta_min / row.mean_l)
    return int(min(max(target, params.b_min), params.max_batch))


@apart
def update_peer_memory(params, row, size, sum_l):
    """After a batch in which ``size`` >= 1 requests of total lengths summing to ``sum_l`` completed."""
    row.mean_l += params.ema * (sum_l / size - row.mean_l)
    row.memory_target = peer_memory_target(params, row)


@apart
def update_peer_sla(params, row, steps, decode_s, member_steps):
    """After a batch with ``steps`` >= 1 decode steps."""
    row.sla_updates += 1
    row.tau += params.ema * (decode_s / steps - row.tau)
    row.mean_batch += params.ema * (member_steps / steps - row.mean_batch)
    if row.sla_updates <= QUIET_UPDATES:
        return
    mean, low, high = math.floor(row.mean_batch), row.low, row.high
    if row.tau > params.tbt + params.eps:
        row.high = min(high, max(mean, low + NEAR_STEP))
        row.low = max(low - FAR_STEP, params.b_min)
    elif row.tau < params.tbt - params.eps:
        row.low = max(low, min(mean, high - NEAR_STEP))
        row.high = min(high + FAR_STEP, params.max_batch)
    else:
        row.low = max(mean - 1.0, params.b_min)
        row.high = min(mean + 1.0, params.max_batch)
