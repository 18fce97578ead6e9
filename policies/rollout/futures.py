"""Futures: the requests that wait, and those that may arrive, drawn from what a scheduler knows."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from llmsched.policies.rollout.places import AHEAD, TARGET
from llmsched.policies.rollout.seen import draw_lengths, write_shares

ARRIVAL, PROMPT, PREDICTED = range(3)
"""Numbers of a request."""


@njit
def draw_future(record, params, memory, rng, requests, ends):
    """Fill ``requests`` (K, N, 3): of every bin those that wait, then those that arrive; ``ends`` (K,): how many.

    Of a bin that holds requests the first is known.  The others are drawn: they arrived evenly since then, and their
    lengths are those of requests that were seen in the bin.  Arrivals are a Poisson process of the estimated rate.
    """
    bins, most = record.num_bins, requests.shape[1]
    for k in range(bins):
        waiting = min(record.queue_length[k], most)
        for j in range(waiting):
            if j == 0:
                prompt, predicted = float(record.head_prompt[k]), float(record.head_predicted[k])
            else:
                prompt, predicted = draw_lengths(record, memory, k, rng)
            age = (record.now - record.head_arrival[k]) * (1.0 - j / waiting)
            requests[k, j, ARRIVAL], requests[k, j, PROMPT] = -age, prompt
            requests[k, j, PREDICTED] = predicted
        ends[k] = waiting
    rate = record.rate_slow
    shares = np.empty(bins)
    write_shares(record, memory, shares)
    t = 0.0
    if rate <= 0.0:
        return
    while True:
        t -= math.log(1.0 - rng.random()) / rate
        if t > params[AHEAD] * params[TARGET]:
            break
        u, k = rng.random(), 0
        while k < bins - 1 and u > shares[k]:
            k += 1
        if ends[k] == most:
            break
        prompt, predicted = draw_lengths(record, memory, k, rng)
        row = requests[k, ends[k]]
        row[ARRIVAL], row[PROMPT], row[PREDICTED] = t, prompt, predicted
        ends[k] += 1
