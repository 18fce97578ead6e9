"""Sessions and closed loops: the plan of a lane is loaded, and read back (docs/reference/semantics.md, 15)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.constants import NONE, PENDING
from llmsched_env.core.layout import ENDS
from llmsched_env.core.state import records
from llmsched_env.requests import Requests
from llmsched_env.simulation.memory import check_memory


def load_plan(arrays: Any, lane: int, requests: Requests, keys: NDArray[np.float64]) -> Any:
    """Make what was loaded for ``lane`` its plan, of which nothing has arrived; returns the arrays, or larger ones.

    ``keys`` (N,): disciplines.planned_keys.
    """
    n = len(requests)
    if n >= ENDS:
        raise ValueError(f"{n:,} requests of sessions are too many: give less than {ENDS:,}.")
    arrays = _grown(arrays, n)
    plan, links, row = arrays.plan[lane], arrays.links[lane], arrays.lane[lane : lane + 1]
    plan[:n] = arrays.requests[lane, :n]
    plan["arrival"][:n], plan["key"][:n] = 0.0, keys
    if arrays.plan_chains.shape[1] >= n:
        arrays.plan_chains[lane, :n] = arrays.chains[lane, :n]
    _link(links[:n], requests)
    first = np.flatnonzero(links["first"][:n] == np.arange(n))
    started = first if requests.concurrency == 0 else first[: requests.concurrency]
    releases = arrays.releases[lane, : len(started)]
    releases["request"] = started
    releases["at"] = requests.arrival_s[started] if requests.concurrency == 0 else 0.0
    row["linked"], row["clients"], row["releases"] = 1, requests.concurrency, len(started)
    row["next_session"] = started[-1] + 1 if len(started) else 0
    return arrays


def _link(links: NDArray, requests: Requests) -> None:
    """Write what releases every request."""
    n = len(links)
    parent = np.full(n, NONE) if requests.parent is None else requests.parent
    links["think"] = 0.0 if requests.think_s is None else requests.think_s
    links["child"] = links["sibling"] = NONE
    links["planned"] = np.arange(n)
    children = np.flatnonzero(parent != NONE)
    order = children[np.argsort(parent[children], kind="stable")]
    parents = parent[order]
    same = parents[1:] == parents[:-1]
    links["sibling"][order[:-1][same]] = order[1:][same]
    begins = np.r_[True, ~same] if len(order) else np.zeros(0, bool)
    links["child"][parents[begins]] = order[begins]
    links["first"] = requests.session
    links["left"] = np.bincount(requests.session, minlength=n)


def _grown(arrays: Any, n: int) -> Any:
    """The arrays with room for plans of ``n`` requests."""
    names = ["plan", "links", "releases"]
    if arrays.chains.shape[1] > 1:
        names.append("plan_chains")
    larger, lanes = {}, len(arrays.lane)
    for name in names:
        old = getattr(arrays, name)
        if old.shape[1] < n:
            check_memory(f"plans of {n:,} requests", float(lanes) * n * old.dtype.itemsize)
            larger[name] = records(np.zeros((lanes, n), old.dtype))
            larger[name][:, : old.shape[1]] = old
    return arrays._replace(**larger) if larger else arrays


def planned_numbers(arrays: Any, lane: int) -> NDArray[np.int64]:
    """The planned request that request i is (N,); behind those that arrived all others, in their order."""
    loaded, arrived = int(arrays.lane[lane]["loaded"]), int(arrays.lane[lane]["next_arrival"])
    sent = arrays.links[lane, :arrived]["planned"].astype(np.int64)
    left = np.ones(loaded, bool)
    left[sent] = False
    return np.concatenate([sent, np.flatnonzero(left)])


def show_unsent(arrays: Any, lane: int, rows: NDArray) -> None:
    """Write the requests that never arrived behind the others into ``rows``, all of the lane."""
    arrived = int(arrays.lane[lane]["next_arrival"])
    rows[arrived:] = arrays.plan[lane, planned_numbers(arrays, lane)[arrived:]]
    rows["status"][arrived:], rows["arrival"][arrived:] = PENDING, math.inf
