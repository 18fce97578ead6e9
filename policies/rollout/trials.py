"""The candidates of a decision of `rollout`, and what each of them costs in simulated futures."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from llmsched.policies.rollout.futures import draw_future
from llmsched.policies.rollout.places import AHEAD, BIN_ROW, CAUTION, FUTURES, POWER, RATIO, TARGET, TIME
from llmsched.policies.rollout.seen import write_free
from llmsched.policies.rollout.what_if import play

MOST_REQUESTS = 1_000
"""Most requests of a bin in a future."""

SHORTEST_S = 1e-9
"""Least time of a batch in the weight of a bin."""


@njit
def write_rule(record, params, memory, weights, sizes):
    """Write the rule's ``weights`` and ``sizes`` (K,) of the bins; returns the bin that it chooses, or -1."""
    best, most = -1, 0.0
    for k in range(record.num_bins):
        sizes[k] = max(1, record.target[k])
        weights[k] = max(memory[k * BIN_ROW + TIME], SHORTEST_S) ** params[POWER]
        if record.queue_length[k] * weights[k] > most:
            best, most = k, record.queue_length[k] * weights[k]
    return best


@njit
def list_candidates(record, best, sizes, choices, takes):
    """Write the candidates, the rule's first, into ``choices`` and ``takes`` (bin and size); returns how many.

    Then waiting (size 0), then twice the rule's size of every bin, halved down to an eighth of it, where that differs.
    """
    choices[0], takes[0], count = best, sizes[best], 1
    if record.can_wait:
        choices[1], takes[1], count = best, 0, 2
    for k in range(record.num_bins):
        length = record.queue_length[k]
        size = 2 * sizes[k]
        while size >= 1 and count < len(choices) and length > 0:
            useful = size < 2 * length and size <= record.max_batch and 8 * size >= sizes[k]
            if useful and (k != best or size != sizes[k]):
                choices[count], takes[count] = k, size
                count += 1
            size //= 2
    return count


@njit
def late_requests(record, memory):
    """The overdue requests: (how many there are, how many at once, in how many s)."""
    count, size, time_s = 0, 1, 0.0
    if record.overdue >= 0:
        count, size = record.queue_length[record.overdue], max(1, record.target[record.overdue])
    for k in range(record.num_bins):  # of mixed lengths: as long as the longest batch
        time_s = max(time_s, memory[k * BIN_ROW + TIME])
    return count, size, time_s


@njit
def room_for(record, params):
    """Requests of a bin that a future has room for."""
    longest = 0
    for k in range(record.num_bins):
        longest = max(longest, record.queue_length[k])
    expected = record.rate_slow * params[AHEAD] * params[TARGET]
    return min(longest + int(2.0 * expected), MOST_REQUESTS) + 1


@njit
def try_all(record, params, memory, rng, choices, takes, weights, sizes):
    """Costs (C, F) of the candidates ``choices`` and ``takes`` (C,), each tried in the same futures."""
    bins, futures = record.num_bins, int(params[FUTURES])
    requests, ends = np.empty((bins, room_for(record, params), 3)), np.empty(bins, np.int64)
    members, late = np.empty(record.max_batch, np.int64), late_requests(record, memory)
    costs = np.zeros((len(choices), futures))
    free, free_at = np.empty(record.num_servers), np.empty(record.num_servers)
    write_free(record, memory, free)
    ratios = np.array([memory[k * BIN_ROW + RATIO] for k in range(bins)])
    for f in range(futures):
        draw_future(record, params, memory, rng, requests, ends)
        for c in range(len(choices)):
            free_at[:] = free
            start = (record.server, choices[c], takes[c])
            costs[c, f] = play(params, requests, ends, free_at, start, weights, sizes, members, late, ratios)
    return costs


@njit
def choose(params, costs):
    """The candidate that costs least on average; the first, unless another gains more than CAUTION standard errors."""
    chosen, most = 0, 0.0
    for c in range(1, len(costs)):
        difference = costs[0] - costs[c]
        doubt = params[CAUTION] * math.sqrt(difference.var() / max(costs.shape[1] - 1, 1))
        gain = difference.mean() - doubt
        if gain > most:
            chosen, most = c, gain
    return chosen
