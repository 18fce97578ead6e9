"""What is done once per request before a run: its row is written, and its time alone is computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import typeof, types

from llmsched_env.compiler.parts import entry_of, fingerprint
from llmsched_env.core.latency import alone_s
from llmsched_env.core.layout import HARDWARE, NONE, PENDING, REQUEST

LOAD_SIGNATURE = types.void(
    typeof(np.zeros(1, REQUEST)),
    types.float64[::1],
    types.int32[::1],
    types.int32[::1],
    types.int32[::1],
    types.int8[::1],
    types.float64[::1],
    types.int64[::1],
)

ALONE_SIGNATURE = types.void(typeof(np.zeros(1, HARDWARE)), types.int64[::1], types.int64[::1], types.float64[::1])


@cache
def rows_loader() -> Callable:
    """The compiled function that writes requests into rows; compiled, or read from disk, when it is first asked for."""
    sources = fingerprint()  # a closure variable of the entry and so part of its cache key

    @entry_of(LOAD_SIGNATURE)
    def load_rows(rows, arrival, prompt, output, predicted, slo_class, key, edges):
        """Write requests that are still to come into ``rows``; their bin is the number of edges <= predicted."""
        sources  # noqa: B018
        for i in range(len(rows)):
            row = rows[i]
            row.arrival, row.prompt, row.output, row.predicted = arrival[i], prompt[i], output[i], predicted[i]
            row.slo_class, row.key = slo_class[i], key[i]
            place = 0
            while place < len(edges) and edges[place] <= predicted[i]:
                place += 1
            row.bin = place
            row.generated = row.missed = row.preemptions = row.overdue = 0
            row.next = row.prev = row.batch = NONE
            row.reason = 0
            row.group, row.server = 0, NONE
            row.status = PENDING
            row.dispatch = row.first_token = row.last_token = row.completion = row.left = np.nan

    return load_rows


@cache
def alone_timer() -> Callable:
    """The compiled function that computes times alone; compiled, or read from disk, when it is first asked for."""
    sources = fingerprint()  # a closure variable of the entry and so part of its cache key

    @entry_of(ALONE_SIGNATURE)
    def alone_times(hardware, prompt, output, times):
        """Write the service time of every request served alone on ``hardware`` (1,) into ``times`` (N,), s."""
        sources  # noqa: B018
        for i in range(len(times)):
            prefill, decode = alone_s(hardware[0], prompt[i], output[i])
            times[i] = prefill + decode

    return alone_times
