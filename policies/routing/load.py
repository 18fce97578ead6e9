"""Routing by the load of the servers, or by none at all."""

from __future__ import annotations

import numpy as np

from llmsched.policies.registry import Floats, Record
from llmsched.policies.routing.registry import routing


@routing("pull", rule="pull")
def pull(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> int:
    """No routing: the servers share the queues, and each takes the next request when it has room."""
    return 0


@routing("round-robin")
def round_robin(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> int:
    """The server after the one before; the next that can hold the prompt."""
    server = (record.last_routed + 1) % record.num_servers
    while record.fits[server] == 0:
        server = (server + 1) % record.num_servers
    return server


@routing("least-outstanding")
def least_outstanding(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> int:
    """The server with the fewest requests, waiting, running or sent since the last reading; the first of equals."""
    best, least = -1, 0
    for s in range(record.num_servers):
        load = record.waiting[s] + record.running[s] + record.sent[s]
        if record.fits[s] == 1 and (best < 0 or load < least):
            best, least = s, load
    return best


@routing("join-shortest-kv")
def join_shortest_kv(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> int:
    """The server with the least KV memory held or asked for, as a share; the first of equals."""
    best, least = -1, 0.0
    for s in range(record.num_servers):
        if record.fits[s] == 1 and (best < 0 or record.kv_load[s] < least):
            best, least = s, record.kv_load[s]
    return best


@routing("power-of-two")
def power_of_two(record: Record, params: Floats, memory: Floats, rng: np.random.Generator) -> int:
    """Of two servers drawn at random the one with fewer requests (Mitzenmacher 2001, doi 10.1109/71.963420)."""
    first = rng.integers(0, record.num_servers)
    second = rng.integers(0, record.num_servers)
    loads = record.waiting[second] + record.running[second] + record.sent[second]
    fewer = loads < record.waiting[first] + record.running[first] + record.sent[first]
    best = second if record.fits[first] == 0 or (fewer and record.fits[second] == 1) else first
    while record.fits[best] == 0:
        best = (best + 1) % record.num_servers
    return best
