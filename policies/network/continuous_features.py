"""The inputs of the network of the engine `continuous`, computed from the record (continuous_layout lists them)."""

from __future__ import annotations

import math

from numba import njit

TTFT_S = 30.0
"""TTFT target (s) where the SLO has none."""

TPOT_S = 0.1
"""TPOT target (s) where the SLO has none."""


@njit
def squash(x, scale):
    """x / (x + scale) of x >= 0."""
    return x / (x + scale)


@njit
def write_shared(record, token_s, budget, out):
    """Write the inputs that all bins share into ``out`` (INPUTS,).

    ``token_s``: time of a prompt token on the asked server; ``budget``: tokens of an iteration.
    Returns (TTFT target in s, TPOT target in s, mean tokens of a completed request, waiting requests that are not
    overdue), which `write_head` takes.
    """
    any_ = record.num_bins
    ttft_s = min(record.slo_ttft, record.slo_e2e)
    ttft_s = TTFT_S if ttft_s == math.inf else ttft_s
    tpot_s = TPOT_S if record.slo_tpot == math.inf else record.slo_tpot
    mean = max(record.mean_tokens[any_], 1.0)
    overdue = record.queue_length[record.overdue] if record.overdue >= 0 else 0
    out[1] = (record.running + 1.0) / record.max_batch
    out[2] = min(record.tau[any_] / tpot_s, 3.0)
    out[7] = squash(record.prefill_left / mean, 1.0)
    out[10] = squash((record.waiting - overdue) / record.num_servers, 4.0)
    out[11] = squash(overdue / record.num_servers, 4.0)
    out[14] = squash(record.rate_slow * ttft_s / record.num_servers, 8.0)
    out[23] = squash(token_s * budget / tpot_s, 4.0)
    out[24] = min(record.rate_fast * mean * token_s / record.num_servers, 3.0)
    return ttft_s, tpot_s, mean, max(record.waiting - overdue, 1)


@njit
def write_head(record, k, token_s, ttft_s, tpot_s, mean, waiting, out):
    """Write the inputs that belong to the head of choice ``k`` into ``out`` (INPUTS,)."""
    prompt, predicted = float(record.head_prompt[k]), max(float(record.head_predicted[k]), 1.0)
    target, members = max(record.target[record.num_bins], 1), record.running + 1.0
    overdue = k == record.overdue
    out[0] = max(1.0 - members / target, -2.0)
    out[3] = min(record.batch_time[k] / predicted / tpot_s, 3.0)
    out[4] = min((record.now - record.head_arrival[k]) / ttft_s, 3.0)
    out[5] = squash(prompt / mean, 1.0)
    out[6] = squash(predicted / mean, 1.0)
    out[8] = (record.kv_used + prompt) / record.kv_tokens
    out[9] = min((record.kv_used + prompt + 0.5 * members * predicted) / record.kv_tokens, 3.0)
    out[12] = 1.0 if overdue else 0.0
    out[13] = 1.0 if overdue and record.head_deadline[k] < record.now else 0.0
    out[15] = min(max((record.running - record.in_service / record.num_servers) / target, -1.0), 1.0)
    out[16] = 0.0 if overdue else record.queue_length[k] / waiting
    out[17] = max(1.0 - 2.0 * members / max(record.low[k] + record.high[k], 2.0), -2.0)
    out[18] = 1.0 if record.head_number[k] == record.head_number[record.num_bins] else 0.0
    prefill_s = token_s * prompt
    ahead_s = token_s * record.prefill_left + prefill_s
    out[19] = min(max((record.head_deadline[k] - record.now - ahead_s) / ttft_s, -2.0), 2.0)
    out[20] = squash(ahead_s / ttft_s, 1.0)
    out[21] = squash(prefill_s / tpot_s, 4.0)
    out[22] = min(max(record.batch_time[k] - prefill_s, 0.0) / max(predicted - 1.0, 1.0) / tpot_s, 3.0)
