"""Refusals and patience (docs/reference/semantics.md, 14), the same for the oracles of both engines."""

from __future__ import annotations

import math
from collections.abc import Iterable

from llmsched_env.config import SimConfig
from tests.oracles.batch.requests import ABANDONED, REFUSED, Request


class Gate:
    """What an arrival has to pass: the queue cap, then the token bucket."""

    def __init__(self, config: SimConfig) -> None:
        self.rules = config.queueing
        self.level, self.filled = self.rules.accept_burst, 0.0

    def reason(self, now: float, waiting: int) -> str:
        """Why a request that arrives ``now`` is refused where ``waiting`` requests wait; empty: it is accepted."""
        if self.rules.queue_cap is not None and waiting >= self.rules.queue_cap:
            return "queue_cap"
        if math.isinf(self.rules.accept_rate):
            return ""
        self.level = min(self.rules.accept_burst, self.level + self.rules.accept_rate * (now - self.filled))
        self.filled = now
        if self.level < 1:
            return "rate"
        self.level -= 1
        return ""


def refuse(request: Request, reason: str, now: float) -> None:
    """It leaves the system, refused."""
    request.status, request.reason, request.left = REFUSED, reason, now


def exit_time(config: SimConfig, request: Request) -> float:
    """When a waiting request leaves if nothing is started; inf: never."""
    patience = request.arrival + config.queueing.patience_s if math.isnan(request.dispatch) else math.inf
    due = request.due if config.queueing.refuses_overdue and not request.returned else math.inf
    return min(patience, due)


def next_exit(config: SimConfig, waiting: Iterable[Request]) -> float:
    """When the next of them leaves; inf: never."""
    return min((exit_time(config, request) for request in waiting), default=math.inf)


def leaving(config: SimConfig, waiting: Iterable[Request], now: float) -> list[Request]:
    """Those who leave now, with their end written down: a client gives up, or the deadline cannot be met."""
    gone = [request for request in waiting if exit_time(config, request) <= now]
    impatient = [r for r in gone if math.isnan(r.dispatch) and r.arrival + config.queueing.patience_s <= now]
    late = [request for request in gone if request not in impatient]
    for request in impatient:
        request.status, request.left = ABANDONED, now
    for request in late:
        refuse(request, "deadline", now)
    return sorted(impatient, key=lambda r: r.number) + sorted(late, key=lambda r: (r.due, r.number))
