"""Sessions and closed loops (docs/reference/semantics.md, 15), the same for the oracles of both engines."""

from __future__ import annotations

import math
from collections.abc import Callable

from llmsched_env.requests import Requests
from tests.oracles.batch.requests import Request

Make = Callable[[int, int, float], Request]
"""(place in the plan, number, arrival) -> the request as an object."""


class Plan:
    """What is still to come: a list of arrivals that are due, and of ends that are known."""

    def __init__(self, requests: Requests, make: Make) -> None:
        self.make = make
        n = len(requests)
        self.parent = [-1] * n if requests.parent is None else requests.parent.tolist()
        self.think = [0.0] * n if requests.think_s is None else requests.think_s.tolist()
        self.given = requests.arrival_s.tolist()
        self.linked = requests.parent is not None or requests.concurrency > 0
        self.closed = requests.concurrency > 0
        starts = [row for row in range(n) if self.parent[row] < 0]
        self.unsent = starts[requests.concurrency :] if self.closed else []
        first = starts[: requests.concurrency] if self.closed else starts
        self.due = [(0.0 if self.closed else self.given[row], row) for row in first]  # (time, place in the plan)
        self.ends: list[tuple[float, int, int]] = []  # known ones: (time, number, place in the plan)
        self.open_of: dict[int, set[int]] = {}  # session -> its requests that have not ended
        for row in range(n):
            self.open_of.setdefault(self._session(row), set()).add(row)
        self.rows: list[int] = []  # the request that arrived as number i
        self.left = set(range(n))

    def _session(self, row: int) -> int:
        while self.parent[row] >= 0:
            row = self.parent[row]
        return row

    def next_arrival(self, before: float) -> float:
        """When the next request arrives; ends that come before that and ``before`` release what waits for them."""
        while self.ends and min(self.ends)[0] < before and min(self.ends)[0] <= min(self.due, default=(math.inf,))[0]:
            end = min(self.ends)
            self.ends.remove(end)
            self._ended(end[2], end[0])
        return min(self.due, default=(math.inf,))[0]

    def arrivals(self, now: float) -> Request | None:
        """The next request that arrives now, with its number."""
        for end in sorted(self.ends):
            if end[0] <= now:
                self.ends.remove(end)
                self._ended(end[2], end[0])
        if not self.due or min(self.due)[0] > now:
            return None
        time, row = min(self.due)
        assert time == now
        self.due.remove((time, row))
        self.left.remove(row)
        self.rows.append(row)
        return self.make(row, len(self.rows) - 1, time)

    def ended(self, request: Request, time: float) -> None:
        """A request has just ended."""
        self._ended(self.rows[request.number], time)

    def will_end(self, request: Request, time: float) -> None:
        """A request is going to end."""
        self.ends.append((time, request.number, self.rows[request.number]))

    def _ended(self, row: int, time: float) -> None:
        for child, parent in enumerate(self.parent):
            if parent == row:
                self.due.append((time + self.think[child], child))
        session = self.open_of[self._session(row)]
        session.remove(row)
        if self.closed and not session and self.unsent:
            first = self.unsent.pop(0)
            self.due.append((time + self.think[first], first))

    @property
    def planned(self) -> list[int]:
        """The request of the plan that number i is, the unsent ones last."""
        return [*self.rows, *sorted(self.left)]

    def never_sent(self) -> list[Request]:
        """The requests that did not arrive, numbered behind the others."""
        rows = sorted(self.left)
        return [
            self.make(row, len(self.rows) + place, math.inf if self.linked else self.given[row])
            for place, row in enumerate(rows)
        ]
