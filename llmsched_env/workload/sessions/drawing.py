"""The plan of a run of sessions, or of a closed loop: drawn from a seed, whatever a policy does with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmsched_env.workload.arrivals import RenewalArrivals
from llmsched_env.workload.contents import Contents
from llmsched_env.workload.sessions.links import Links
from llmsched_env.workload.sessions.think import ThinkLaw
from llmsched_env.workload.sessions.turns import DrawnSessions, SessionLaw, contents_of_sessions

Rngs = Mapping[str, np.random.Generator]


@dataclass(frozen=True)
class Asked:
    """How much is drawn: ``sessions`` or ``requests`` (the last session is cut), whichever is less; None: no limit."""

    sessions: int | None
    requests: int | None

    def take(self, turns: NDArray[np.int64]) -> tuple[int, int]:
        """(Sessions, requests) of those with so many ``turns`` (S,) that are wanted."""
        total = np.cumsum(turns)
        sessions = len(turns) if self.sessions is None else min(self.sessions, len(turns))
        requests = int(total[sessions - 1]) if sessions else 0
        if self.requests is not None and self.requests < requests:
            requests = self.requests
            sessions = int(np.searchsorted(total, requests)) + 1
        return sessions, requests

    def met_by(self, turns: NDArray[np.int64]) -> bool:
        """Whether sessions of so many ``turns`` are enough."""
        enough = self.sessions is not None and len(turns) >= self.sessions
        return enough or (self.requests is not None and turns.sum() >= self.requests)


@dataclass(frozen=True)
class Plan:
    """N requests, session after session: ``session`` (N,) its number, ``row`` (N,) of a trace, or none.

    ``start_s`` (S,): when each session begins, ascending; None: that is not known.
    """

    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    parent: NDArray[np.int64]
    think_s: NDArray[np.float64]
    session: NDArray[np.int64]
    contents: Contents | None
    row: NDArray[np.int64] | None = None
    start_s: NDArray[np.float64] | None = None

    def part(self, kept: NDArray[np.int64]) -> Plan:
        """Those requests, in this order; every parent must be among them."""
        place = np.full(len(self.prompt), -1)
        place[kept] = np.arange(len(kept))
        parent = self.parent[kept]
        return replace(
            self,
            prompt=self.prompt[kept],
            output=self.output[kept],
            parent=np.where(parent >= 0, place[parent], -1),
            think_s=self.think_s[kept],
            session=self.session[kept],
            contents=None if self.contents is None else self.contents.rows(kept),
            row=None if self.row is None else self.row[kept],
        )

    def with_think(self, law: ThinkLaw, rng: np.random.Generator) -> Plan:
        """Other think times, unless the law is what was recorded."""
        return self if law.recorded else replace(self, think_s=law.draw(len(self.prompt), rng))

    def in_order(self, start_s: NDArray[np.float64]) -> tuple[Plan, NDArray[np.float64]]:
        """In order of the earliest time at which each request can arrive, and these times."""
        times = start_s[self.session].copy()
        for row in np.flatnonzero(self.parent >= 0):  # parents come before their children
            times[row] = times[self.parent[row]] + self.think_s[row]
        order = np.argsort(times, kind="stable")
        return self.part(order), times[order]


def drawn_plan(law: SessionLaw, asked: Asked, rngs: Rngs) -> Plan:
    """Sessions of a generator."""
    pieces: list[DrawnSessions] = []
    turns = np.zeros(0, np.int64)
    while not asked.met_by(turns):
        pieces.append(law.sessions(64, rngs["lengths"]))
        turns = np.concatenate([piece.turns for piece in pieces])
    sessions, requests = asked.take(turns)
    turns = turns[:sessions]
    columns = ([getattr(piece, name) for piece in pieces] for name in ("prompt", "output", "think_s"))
    prompt, output, think = (np.concatenate(column)[:requests] for column in columns)
    session = np.repeat(np.arange(sessions), turns)[:requests]
    first = np.r_[True, session[1:] != session[:-1]]
    parent = np.where(first, -1, np.arange(requests) - 1)
    contents = contents_of_sessions(session, prompt, output, rngs["prefixes"])
    return Plan(prompt, output, parent, think, session, contents)


def replayed_plan(
    lengths: tuple[NDArray[np.int32], NDArray[np.int32]],
    time_s: NDArray[np.float64],
    links: Links,
    contents: Contents | None,
    asked: Asked,
    rngs: Rngs,
) -> Plan:
    """Sessions of a trace: from one that is drawn on, and round again with other texts; without a common clock in an
    order that is drawn."""
    known = _sessions_of(links.parent)
    first = np.flatnonzero(links.parent < 0)
    rows = np.argsort(known, kind="stable")
    turns = np.bincount(known)
    begins = np.cumsum(turns) - turns
    rng, count = rngs["arrivals"], len(turns)
    whole = asked if asked.sessions is not None or asked.requests is not None else replace(asked, sessions=count)
    offset = int(rng.integers(count))
    order = np.zeros(0, np.int64)
    while not len(order) or not whole.met_by(turns[order]):
        more = (np.arange(count) + offset) % count if links.clocked else rng.permutation(count)
        order = np.concatenate([order, more])
    sessions, requests = whole.take(turns[order])
    order = order[:sessions]
    session = np.repeat(np.arange(sessions), turns[order])
    within = np.arange(len(session)) - np.repeat(np.cumsum(turns[order]) - turns[order], turns[order])
    row = rows[np.repeat(begins[order], turns[order]) + within]
    place = np.empty(len(time_s), np.int64)
    place[rows] = np.arange(len(rows))
    before = links.parent[row]
    parent = np.where(before >= 0, np.arange(len(row)) - (place[row] - place[before]), -1)
    turn = np.repeat(np.arange(sessions) // count, turns[order])
    start_s = None
    if links.clocked:
        begin = time_s[first]
        round_s = begin[-1] - begin[0] + (begin[-1] - begin[0]) / max(count - 1, 1)
        start_s = begin[order] - begin[offset] + round_s * ((offset + np.arange(sessions)) // count)
    text = None if contents is None else contents.rows(row, turn)
    found = Plan(lengths[0][row], lengths[1][row], parent, links.think_s[row], session, text, row, start_s)
    return found if requests == len(row) else found.part(np.arange(requests))


def _sessions_of(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the session of every row (N,), in order of the first rows; a parent comes before its children."""
    session = np.cumsum(parent < 0) - 1
    for row in np.flatnonzero(parent >= 0):
        session[row] = session[parent[row]]
    return session


def starts_of(plan: Plan, rate: float, burstiness: float | None, rng: np.random.Generator) -> NDArray[np.float64]:
    """Starts of the sessions of a plan, ``rate`` requests/s in the mean: gamma gaps, Poisson unless told otherwise."""
    sessions = int(plan.session[-1]) + 1
    shape = 1.0 if burstiness is None else burstiness
    return RenewalArrivals(rate * sessions / len(plan.session), shape, rng).take(sessions)


def own_rate(links: Links, time_s: NDArray[np.float64]) -> float:
    """Requests/s of the sessions of a trace by the times at which they start; NaN without a common clock."""
    begin = time_s[links.parent < 0]
    span = float(begin[-1] - begin[0]) if links.clocked and len(begin) > 1 else 0.0
    return len(time_s) / (span * len(begin) / (len(begin) - 1)) if span > 0 else math.nan
