"""The rows of routing as a decision: what a routing policy may know, and what the state keeps for it."""

from __future__ import annotations

import numpy as np

from llmsched_env.core.constants import MAX_SERVERS

ROUTE_RECORD = np.dtype(  # what a routing policy may know; docs/reference/routing.md explains it for users
    [
        ("now", "f8"),
        ("num_servers", "i8"),  # S
        ("max_batch", "i8"),  # members that a running set may have
        # the request that has arrived
        ("number", "i8"),
        ("prompt", "i8"),
        ("predicted", "i8"),  # output tokens
        ("slo_class", "i8"),
        ("deadline", "f8"),  # arrival + min(TTFT, E2E target) of its class
        ("rate_fast", "f8"),  # arrivals/s over about the last 16 and 256 gaps; 0 before the second arrival
        ("rate_slow", "f8"),
        ("last_routed", "i8"),  # server of the request before, NONE: this is the first
        ("prefix_cache", "i8"),  # 1: there is one
        ("load_age", "f8"),  # s since the loads below were read
        # of server s, s < S, at the last reading
        ("waiting", "i8", (MAX_SERVERS,)),  # requests sent to it that are in no running set
        ("running", "i8", (MAX_SERVERS,)),  # members of its running set
        ("kv_load", "f8", (MAX_SERVERS,)),  # tokens held, or asked for by what waits for it, over its KV memory
        # of server s, now
        ("sent", "i8", (MAX_SERVERS,)),  # requests sent to it since the last reading
        ("cached", "i8", (MAX_SERVERS,)),  # tokens of this prompt that its prefix cache holds
        ("kv_tokens", "f8", (MAX_SERVERS,)),  # its KV memory
        ("fits", "i8", (MAX_SERVERS,)),  # 1: its memory can hold this prompt
    ],
    align=True,
)

ROUTING = np.dtype(  # of a lane
    [
        ("asked", "i8"),  # request whose server is to be named, or NONE
        ("placed", "i8"),  # request whose server was named and that does not wait there yet, or NONE
        ("read_at", "f8"),  # when the loads were read last; NaN: never
        ("last", "i4"),  # server of the last request that was routed, or NONE
    ],
    align=True,
)

READING = np.dtype(  # of a server: its load as it was read last
    [("waiting", "i4"), ("running", "i4"), ("kv_load", "f8"), ("sent", "i4")], align=True
)
