"""The policy `rollout`: it tries its candidates in simulated futures and takes the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmsched.policies.network.settings import OVERDUE_BATCH_FACTOR, OVERDUE_FACTOR
from llmsched.policies.parameters import Value, number
from llmsched.policies.registry import Floats, Function, policy
from llmsched.policies.rollout.futures import draw_future
from llmsched.policies.rollout.places import (
    AHEAD,
    BIN_ROW,
    CAUTION,
    FUTURES,
    MEMORY,
    POWER,
    RATIO,
    TARGET,
    TIME,
    packed,
)
from llmsched.policies.rollout.seen import look, took, write_free
from llmsched.policies.rollout.what_if import play
from llmsched.policies.sources import sources_of
from llmsched_env.config import SimConfig

MOST_CANDIDATES = 64

MOST_REQUESTS = 1_000
"""Most requests of a bin in a future."""

SHORTEST_S = 1e-9
"""Least time of a batch in the weight of a bin."""


def build_function(sources: str) -> Function:
    """The decide function; ``sources`` says which source it was compiled from (policies.network.policy)."""

    def rollout(record, params, memory, rng):
        """The decision after which fewest requests miss, tried in simulated futures (slow; docs/results/rollout.md)."""
        sources  # noqa: B018
        look(record, memory)
        bins, servers = record.num_bins, record.num_servers
        weights, sizes = np.ones(bins), np.ones(bins, np.int64)
        choices, takes = np.empty(MOST_CANDIDATES, np.int64), np.empty(MOST_CANDIDATES, np.int64)
        best, most, count = -1, -1.0, 0
        for k in range(bins):
            sizes[k] = max(1, record.target[k])
            weights[k] = max(memory[k * BIN_ROW + TIME], SHORTEST_S) ** params[POWER]
            if record.queue_length[k] * weights[k] > most and record.queue_length[k] > 0:
                best, most = k, record.queue_length[k] * weights[k]
        if best < 0:
            best = record.overdue if record.overdue >= 0 else bins
            return best, record.target[best]
        choices[0], takes[0], count = best, sizes[best], 1
        if record.can_wait:
            choices[count], takes[count] = best, 0
            count += 1
        for k in range(bins):
            length = record.queue_length[k]
            size = 2 * sizes[k]
            while size >= 1 and count < MOST_CANDIDATES and length > 0:
                useful = size < 2 * length and size <= record.max_batch and 8 * size >= sizes[k]
                if useful and (k != best or size != sizes[k]):
                    choices[count], takes[count] = k, size
                    count += 1
                size //= 2
        if count == 1:
            took(record, memory, choices[0], takes[0])
            return choices[0], takes[0]
        overdue, overdue_size, overdue_s = 0, 1, 0.0
        if record.overdue >= 0:
            overdue, overdue_size = record.queue_length[record.overdue], max(1, record.target[record.overdue])
        for k in range(bins):  # of mixed lengths: as long as the longest batch
            overdue_s = max(overdue_s, memory[k * BIN_ROW + TIME])
        late = (overdue, overdue_size, overdue_s)
        futures, expected = int(params[FUTURES]), record.rate_slow * params[AHEAD] * params[TARGET]
        longest = 0
        for k in range(bins):
            longest = max(longest, record.queue_length[k])
        requests, ends = (
            np.empty((bins, min(longest + int(2.0 * expected), MOST_REQUESTS) + 1, 3)),
            np.empty(bins, np.int64),
        )
        members = np.empty(record.max_batch, np.int64)
        costs, free, free_at = np.zeros((count, futures)), np.empty(servers), np.empty(servers)
        write_free(record, memory, free)
        ratios = np.array([memory[k * BIN_ROW + RATIO] for k in range(bins)])
        for f in range(futures):
            draw_future(record, params, memory, rng, requests, ends)
            for c in range(count):
                free_at[:] = free
                costs[c, f] = play(
                    params,
                    requests,
                    ends,
                    free_at,
                    record.server,
                    choices[c],
                    takes[c],
                    weights,
                    sizes,
                    members,
                    late,
                    ratios,
                )
        chosen, gain = 0, 0.0
        for c in range(1, count):
            difference = costs[0] - costs[c]
            mean = difference.mean()
            doubt = params[CAUTION] * math.sqrt(difference.var() / max(futures - 1, 1))
            if mean - doubt > gain:
                chosen, gain = c, mean - doubt
        took(record, memory, choices[chosen], takes[chosen])
        return choices[chosen], takes[chosen]

    return rollout


def adapt(config: SimConfig, values: Mapping[str, Value]) -> SimConfig:
    """``config`` with first come first served bins and the overdue queue that `network` sets."""
    queueing = replace(
        config.queueing,
        discipline="fifo",
        overdue_factor=OVERDUE_FACTOR["batch"],
        overdue_batch_factor=OVERDUE_BATCH_FACTOR,
    )
    return replace(config, queueing=queueing)


def load(values: Mapping[str, Value], config: SimConfig) -> tuple[Floats, int]:
    """(parameters (P,), numbers of memory)."""
    numbers = [float(values[name] or 0) for name in ("futures", "ahead", "power", "caution", "soft")]
    return packed(adapt(config, values), numbers), MEMORY


policy(
    "rollout",
    engines=("batch",),
    params={
        "futures": number(32, 2, 1000, whole=True),
        "ahead": number(2, 0.1, 10),
        "power": number(0.3, 0, 2),
        "caution": number(2, 0, 10),
        "soft": number(0.1, 0.001, 1),
    },
    adapt=adapt,
    load=load,
    details=True,
)(build_function(sources_of(Path(__file__).parent)))
