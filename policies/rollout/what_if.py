"""What follows a decision in one future, under a rule: a small model of the engine `batch`, of the policy's own.

Times are seconds from the decision on.  Requests that become overdue are misses;
they are served, in batches of equal length, when nothing else waits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from llmsched.policies.rollout.futures import ARRIVAL, PREDICTED, PROMPT
from llmsched.policies.rollout.places import BATCH_FACTOR, FACTOR, OVERHEAD, SOFT, TARGET, law_of
from llmsched_env.core.latency import decode_until_s, prefill_s


@njit
def service_s(law, batch, prompts, squares, longest, total):
    """Service time of a batch: ``batch`` members with these sums, longest output and longest prompt + output."""
    return prefill_s(law, prompts, squares) + decode_until_s(law, batch, prompts, total - longest, int(longest))


@njit
def last_start(law, params, request):
    """When a request becomes overdue: its deadline minus a factor times what it takes alone."""
    prompt, output, target = request[PROMPT], request[PREDICTED], params[TARGET]
    alone = service_s(law, 1, prompt, prompt * prompt, output, prompt + output)
    return request[ARRIVAL] + target - min(params[FACTOR] * alone, max(alone, 0.5 * target))


@njit
def launch(params, law, queue, first, end, now, size, members, wrong):
    """Serve the first ``size`` of ``queue[first:end]`` from ``now`` on, in 1 + ``wrong`` times the predicted time.

    Returns (place behind those that were taken or became overdue, end of service, cost, how many became overdue).
    Nobody left: the end is now.
    """
    memory, n, overdue, target = law.eta, 0, 0, params[TARGET]
    reserved, at = 0.0, first
    while True:
        while n < size and at < end:
            request = queue[at]
            need = min(request[PROMPT] + request[PREDICTED], memory)
            if params[FACTOR] > 0.0 and now >= last_start(law, params, request):
                at += 1
                overdue += 1
                continue
            if n > 0 and reserved + need > memory:
                break
            members[n], reserved = at, reserved + need
            n += 1
            at += 1
        if n == 0:
            return at, now, float(overdue), overdue
        prompts, squares, longest, total = 0.0, 0.0, 0.0, 0.0
        for m in range(n):
            request = queue[members[m]]
            prompts += request[PROMPT]
            squares += request[PROMPT] * request[PROMPT]
            longest = max(longest, request[PREDICTED])
            total = max(total, request[PROMPT] + request[PREDICTED])
        spent = params[OVERHEAD] + service_s(law, n, prompts, squares, longest, total)
        limit, kept = now + params[BATCH_FACTOR] * spent, 0
        for m in range(n):
            request = queue[members[m]]
            if params[BATCH_FACTOR] > 0.0 and request[ARRIVAL] + target < limit:
                overdue += 1
                reserved -= min(request[PROMPT] + request[PREDICTED], memory)
            else:
                members[kept] = members[m]
                kept += 1
        if kept == n:
            break
        n = kept
    spent *= 1.0 + wrong
    cost = float(overdue)
    for m in range(n):
        took = now + spent - queue[members[m], ARRIVAL]
        cost += 1.0 / (1.0 + math.exp((target - took) / (params[SOFT] * target)))
    return at, now + spent, cost, overdue


@njit
def pick(waiting, weights):
    """The bin with most waiting requests x weight."""
    best, most = -1, 0.0
    for k in range(len(waiting)):
        if waiting[k] * weights[k] > most:
            best, most = k, waiting[k] * weights[k]
    return best


@njit
def play(params, requests, ends, free_at, start, weights, sizes, members, late, ratios):
    """Cost of a future: requests that miss, and those that nearly do by a part.

    ``requests`` (K, N, 3) and ``ends`` (K,) are the future, ``free_at`` (S,) when servers are free (it is used up),
    ``start`` is (asked server, bin, size): what it takes now (size 0: it waits for the next event).  Then the rule
    goes on: the bin with most requests x ``weights`` (K,), as many as ``sizes`` (K,).  When the bins are empty it
    serves overdue requests: ``late`` is (how many there are, how many at once, in how many s).  ``ratios`` (K,) are
    measured / predicted times of batches, minus 1.
    """
    bins, servers = len(ends), len(free_at)
    first, seen = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    waiting = np.zeros(bins)
    cost, now, done = 0.0, 0.0, False
    overdue, overdue_size, overdue_s = late
    for k in range(bins):
        while seen[k] < ends[k] and requests[k, seen[k], ARRIVAL] <= 0.0:
            seen[k] += 1
    while True:
        if not done:
            (s, k, n), done = start, True
            if n == 0:  # until something happens
                soonest = math.inf
                for j in range(servers):
                    if free_at[j] > 0.0:
                        soonest = min(soonest, free_at[j])
                for j in range(bins):
                    if seen[j] < ends[j]:
                        soonest = min(soonest, requests[j, seen[j], ARRIVAL])
                for j in range(servers):
                    free_at[j] = max(free_at[j], soonest)
                continue
        else:
            s = 0
            for j in range(1, servers):
                if free_at[j] < free_at[s]:
                    s = j
            now = max(now, free_at[s])
            nearest = math.inf
            for j in range(bins):
                while seen[j] < ends[j] and requests[j, seen[j], ARRIVAL] <= now:
                    seen[j] += 1
                waiting[j] = seen[j] - first[j]
                if seen[j] < ends[j]:
                    nearest = min(nearest, requests[j, seen[j], ARRIVAL])
            k = pick(waiting, weights)
            if k < 0:
                if overdue > 0 and nearest < math.inf:
                    overdue -= min(overdue, overdue_size)
                    free_at[s] = now + overdue_s
                    continue
                if nearest == math.inf:
                    return cost
                free_at[s] = nearest
                continue
            n = sizes[k]
        at, end, more, added = launch(
            params, law_of(params, s), requests[k], first[k], seen[k], now, n, members, ratios[k]
        )
        first[k], free_at[s], cost, overdue = at, end, cost + more, overdue + added
