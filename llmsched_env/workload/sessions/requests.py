"""From a plan to the Requests of a run: when sessions start, what is predicted, which class a session is of."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from llmsched_env.requests import Requests
from llmsched_env.workload.sessions.drawing import Asked, Plan, Rngs, drawn_plan, own_rate, replayed_plan, starts_of
from llmsched_env.workload.sessions.turns import SessionLaw
from llmsched_env.workload.traces import Trace

if TYPE_CHECKING:
    from llmsched_env.workload.workload import Workload


def requests_of_sessions(workload: Workload, rngs: Rngs) -> Requests:
    """The sessions of ``workload``, in a closed loop one after the other, else in order of their earliest arrivals."""
    plan = _plan(workload, rngs).with_think(workload.parsed_think, rngs["think"])
    arrival = np.zeros(len(plan.prompt))
    if workload.concurrency is None:
        plan, arrival = _with_starts(workload, plan, rngs)
    predicted = workload.parsed_predictor.predict(plan.prompt, plan.output, workload.output_cap, rngs["predictions"])
    said = workload.trace_classes
    if said is not None and plan.row is not None:
        classes = said[plan.row]
    else:
        shares = np.cumsum(workload.slo_shares)
        drawn = np.searchsorted(shares, rngs["classes"].random(int(plan.session.max()) + 1), side="right")
        classes = np.minimum(drawn, len(shares) - 1).astype(np.int8)[plan.session]
    found = Requests(
        arrival,
        plan.prompt,
        plan.output,
        predicted,
        classes,
        parent=plan.parent.astype(np.int32),
        think_s=plan.think_s,
        concurrency=workload.concurrency or 0,
    )
    if plan.contents is None:
        return found
    known = plan.contents
    return replace(found, hashes=known.hashes, hashed_tokens=known.hashed_tokens, hash_tokens=known.hash_tokens)


def closed_loop(workload: Workload, requests: Requests, rngs: Rngs) -> Requests:
    """``requests`` as the list that the clients of ``workload`` share."""
    think = workload.parsed_think.draw(len(requests), rngs["think"])
    clients = workload.concurrency or 0
    return replace(requests, arrival_s=np.zeros(len(requests)), think_s=think, concurrency=clients)


def _plan(workload: Workload, rngs: Rngs) -> Plan:
    asked, origin = Asked(workload.sessions, workload.requests), workload.origin
    if isinstance(origin, Trace):
        assert origin.links is not None
        lengths = origin.prompt_tokens, origin.output_tokens
        return replayed_plan(lengths, origin.arrival_s, origin.links, origin.contents, asked, rngs)
    assert isinstance(origin.lengths, SessionLaw)
    if workload.sessions is None and workload.requests is None:
        assert workload.duration_s is not None
        count = 1.2 * workload.mean_rate * workload.duration_s / origin.lengths.mean_turns
        asked = replace(asked, sessions=int(count) + 100)
    return drawn_plan(origin.lengths, asked, rngs)


def _with_starts(workload: Workload, plan: Plan, rngs: Rngs) -> tuple[Plan, np.ndarray]:
    """The plan in order, and the earliest time of every request; sessions that would start later are left out."""
    origin = workload.origin
    if isinstance(origin, Trace) and plan.start_s is not None and origin.links is not None:
        own = own_rate(origin.links, origin.arrival_s)
        starts = plan.start_s * (1.0 if math.isnan(own) else own / workload.mean_rate)
    else:
        starts = starts_of(plan, workload.mean_rate, workload.burstiness, rngs["arrivals"])
    if workload.duration_s is not None:
        plan = plan.part(np.flatnonzero(starts[plan.session] <= workload.duration_s))
    return plan.in_order(starts) if len(plan.prompt) else (plan, np.zeros(0))
