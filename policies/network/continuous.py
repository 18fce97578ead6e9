"""The learned scheduler in the engine `continuous`: a small network scores the first request of every bin.

The best one is admitted and the server asked again at the same instant, until none scores above 0.  One set of weights
serves any number of bins and servers and, since everything it sees is a ratio to a target or a mean, any hardware.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numba import njit

from llmsched.policies.network.layouts import INPUTS
from llmsched_env.config import Continuous, Server, SimConfig

SCALE_S, STEP_S = 30.0, 0.1
"""TTFT and TPOT targets where the SLO has none."""

GIVEN_UP = 2.5
"""Who could not be prefilled so many times before the deadline goes to the late bin (config.Queueing)."""

CHUNK_SHARE, BESIDE = 0.4, 100.0
"""Share of the TPOT target that the chunks of an iteration may take, and tokens of its budget left for decoding."""

PROBE_TOKENS = 2048.0


@njit
def ratio(x, scale):
    """x / (x + scale) of x >= 0."""
    return x / (x + scale)


@njit
def fleet(record, out):
    """Write what all heads have in common into ``out`` (INPUTS,)."""
    any_ = record.num_bins
    ttft = min(record.slo_ttft, record.slo_e2e)
    ttft = SCALE_S if ttft == math.inf else ttft
    tpot = STEP_S if record.slo_tpot == math.inf else record.slo_tpot
    mean = max(record.mean_tokens[any_], 1.0)
    late = record.queue_length[record.late_bin] if record.late_bin >= 0 else 0
    out[1] = (record.running + 1.0) / record.max_batch
    out[2] = min(record.tau[any_] / tpot, 3.0)
    out[7] = ratio(record.prefill_left / mean, 1.0)
    out[10] = ratio((record.waiting - late) / record.num_servers, 4.0)
    out[11] = ratio(late / record.num_servers, 4.0)
    out[14] = ratio(record.rate_slow * ttft / record.num_servers, 8.0)
    return ttft, tpot, mean, max(record.waiting - late, 1)


@njit
def describe(record, k, ttft, tpot, mean, waiting, out):
    """Write what is the head's own of bin ``k`` into ``out`` (INPUTS,)."""
    prompt, predicted = float(record.head_prompt[k]), max(float(record.head_predicted[k]), 1.0)
    target, members = max(record.target[record.num_bins], 1), record.running + 1.0
    late = k == record.late_bin
    out[0] = max(1.0 - members / target, -2.0)
    out[3] = min(record.batch_time[k] / predicted / tpot, 3.0)
    out[4] = min((record.now - record.head_arrival[k]) / ttft, 3.0)
    out[5] = ratio(prompt / mean, 1.0)
    out[6] = ratio(predicted / mean, 1.0)
    out[8] = (record.kv_used + prompt) / record.kv_tokens
    out[9] = min((record.kv_used + prompt + 0.5 * members * predicted) / record.kv_tokens, 3.0)
    out[12] = 1.0 if late else 0.0
    out[13] = 1.0 if late and record.head_deadline[k] < record.now else 0.0
    out[15] = min(max((record.running - record.in_service / record.num_servers) / target, -1.0), 1.0)
    out[16] = 0.0 if late else record.queue_length[k] / waiting
    out[17] = max(1.0 - 2.0 * members / max(record.low[k] + record.high[k], 2.0), -2.0)
    out[18] = 1.0 if record.head_number[k] == record.head_number[record.num_bins] else 0.0


@njit
def scored(weights, at, hidden, inputs):
    """The score of ``inputs`` (INPUTS,) by the network that begins at ``weights[at]``, packed as shapes says."""
    of_inputs = at + hidden
    out = of_inputs + hidden * INPUTS
    straight = out + hidden
    total = weights[straight + INPUTS]
    for j in range(INPUTS):
        total += weights[straight + j] * inputs[j]
    for h in range(hidden):
        unit = weights[at + h]
        for j in range(INPUTS):
            unit += weights[of_inputs + h * INPUTS + j] * inputs[j]
        total += weights[out + h] * max(unit, 0.0)
    return total


@njit
def admit(record, params):
    """The bin whose first request joins the running set now, and the size that lets it in; size 0 where none does.

    The network stands at the end of ``params``, followed by the number of its hidden units.
    """
    bins, hidden = record.num_bins, int(params[-1])
    at = len(params) - 2 - 2 * hidden - (hidden + 1) * INPUTS
    inputs = np.zeros(INPUTS)
    ttft, tpot, mean, waiting = fleet(record, inputs)
    only_late = record.late_bin >= 0 and record.queue_length[record.late_bin] == record.waiting
    best, most = bins, 0.0
    for k in range(bins):
        if record.queue_length[k] == 0 or (k == record.late_bin and not only_late):
            continue
        describe(record, k, ttft, tpot, mean, waiting, inputs)
        score = scored(params, at, hidden, inputs)
        if score > most:
            best, most = k, score
    return (best, record.running + 1) if best < bins else (bins, 0)


def token_budget(servers: tuple[Server, ...], tpot_s: float, max_batch: int) -> float:
    """Tokens of an iteration whose chunks take CHUNK_SHARE of the TPOT target on the fastest server."""
    token_s = min(server.profile.prefill_ms([PROBE_TOKENS]) for server in servers) / PROBE_TOKENS / 1000.0
    return float(max(max_batch, round(BESIDE + CHUNK_SHARE * tpot_s / token_s)))


def fitted(config: SimConfig) -> SimConfig:
    """``config`` with the order, the late bin and the chunks that go with the network."""
    budget = config.continuous.token_budget
    tpot_s = config.slos[0].tpot_s
    if math.isfinite(tpot_s):
        budget = token_budget(config.servers, tpot_s, config.max_batch)
    own: Continuous = replace(config.continuous, admission="prompt", prefill="chunked", token_budget=budget)
    return replace(config, queueing=replace(config.queueing, discipline="fifo", late_bin=GIVEN_UP), continuous=own)
