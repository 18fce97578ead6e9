"""The network of the engine `continuous`: it scores the first request of every bin, or of the overdue queue while all
bins are empty; the best one is admitted.

The server is asked again at the same instant, until no score is above 0.  One set of weights serves any number of bins
and servers.  Its inputs are ratios to a target or to a mean, so it also serves any hardware.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from llmsched.policies.network.continuous_features import write_head, write_shared
from llmsched.policies.network.continuous_layout import INPUTS


@njit
def score_head(weights, inputs):
    """The score of ``inputs`` (INPUTS,); ``weights`` (P,) begin with the packed ones (layouts.Layout.pack)."""
    hidden, at = int(weights[0]), 1
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
def hidden_numbers(hidden):
    """Packed numbers of a network with ``hidden`` hidden units, without the first."""
    return hidden * (INPUTS + 2) + INPUTS + 1


@njit
def choose_admission(record, weights):
    """The answer (bin, size): the bin whose head joins the running set now, and a size that has room for it.

    Size 0 admits none.  ``weights`` (P,): those of hardware.with_hardware.
    """
    bins, inputs = record.num_bins, np.zeros(INPUTS)
    facts = 1 + hidden_numbers(int(weights[0]))
    token_s = weights[facts + 1 + record.server]
    ttft_s, tpot_s, mean, waiting = write_shared(record, token_s, weights[facts], inputs)
    only_overdue = record.overdue >= 0 and record.queue_length[record.overdue] == record.waiting
    best, most = bins, 0.0
    for queue in range(bins + only_overdue):
        k = queue if queue < bins else record.overdue
        if record.queue_length[k] == 0:
            continue
        write_head(record, k, token_s, ttft_s, tpot_s, mean, waiting, inputs)
        score = score_head(weights, inputs)
        if score > most:
            best, most = k, score
    return (best, record.running + 1) if best != bins else (bins, 0)
