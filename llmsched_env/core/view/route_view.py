"""The observation of a router: the route record as bounded float32, of one layout for a given number of servers."""

from __future__ import annotations

import math

from llmsched_env.compiler.parts import part
from llmsched_env.core.constants import NONE
from llmsched_env.core.view.observation import squash, squash_log

REQUEST = (
    # name, meaning, unit, scale
    ("prompt", "prompt of the request", "tokens", "log2(1 + x) / 20"),
    ("predicted", "its predicted output", "tokens", "log2(1 + x) / 20"),
    ("slack", "time left to its deadline; 0 without one", "s", "x / (x + T)"),
    ("rate_fast", "arrivals expected in T per server, from about the last 16 gaps", "requests", "log2(1 + x) / 12"),
    ("rate_slow", "... from about the last 256 gaps", "requests", "log2(1 + x) / 12"),
    ("load_age", "time since the loads were read", "s", "x / (x + T)"),
)
"""Entries that exist once."""

PER_SERVER = (
    ("waiting", "requests sent to it that are in no running set", "requests", "log2(1 + x) / 12"),
    ("running", "members of its running set", "share of max_batch", "linear"),
    ("kv_load", "KV memory held, or asked for by what waits", "share of capacity", "x / (x + 1)"),
    ("sent", "requests sent to it since the loads were read", "requests", "log2(1 + x) / 12"),
    ("cached", "tokens of the prompt that its prefix cache holds", "share of the prompt", "linear"),
    ("last", "1 where the request before was sent", "0 or 1", "linear"),
)
"""Entries that exist for every server; the first three as they were read last."""


def size(servers: int) -> int:
    """Number of entries for so many servers."""
    return len(REQUEST) + servers * len(PER_SERVER)


def names(servers: int) -> list[str]:
    """Name of every entry, in order: ``prompt``, ..., ``server0.waiting``, ..."""
    return [name for name, *_ in REQUEST] + [f"server{s}.{name}" for s in range(servers) for name, *_ in PER_SERVER]


@part
def write_route_observation(record, out, scale):
    """Write the image of ``record`` into ``out`` (size,) float32; ``scale`` is T in s."""
    servers, cap = record.num_servers, float(record.max_batch)
    out[0] = squash_log(float(record.prompt), 20.0)
    out[1] = squash_log(float(record.predicted), 20.0)
    out[2] = 0.0 if record.deadline == math.inf else squash(record.deadline - record.now, scale)
    out[3] = squash_log(record.rate_fast * scale / servers, 12.0)
    out[4] = squash_log(record.rate_slow * scale / servers, 12.0)
    out[5] = squash(record.load_age, scale)
    at = len(REQUEST)
    for s in range(servers):
        out[at] = squash_log(float(record.waiting[s]), 12.0)
        out[at + 1] = min(record.running[s] / cap, 1.0)
        out[at + 2] = record.kv_load[s] / (record.kv_load[s] + 1.0)
        out[at + 3] = squash_log(float(record.sent[s]), 12.0)
        out[at + 4] = record.cached[s] / record.prompt if record.number != NONE else 0.0
        out[at + 5] = 1.0 if s == record.last_routed else 0.0
        at += len(PER_SERVER)
