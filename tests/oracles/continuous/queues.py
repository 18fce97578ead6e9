"""What waits, in which order, and who leaves without service (docs/reference/semantics.md, 2 and 14)."""

from __future__ import annotations

from llmsched_env.config import SimConfig
from tests.oracles.batch.requests import Request, in_order_of_any
from tests.oracles.continuous.options import Options
from tests.oracles.continuous.server import Server
from tests.oracles.leaving import leaving, refuse
from tests.oracles.sessions import Plan


class Queues:
    """The part of the simulator that looks after what waits."""

    config: SimConfig
    options: Options
    num_bins: int
    now: float
    waiting: list[Request]
    home: dict[int, int]
    in_system: int
    plan: Plan

    def _event(self, *, timer: bool = False) -> None:
        raise NotImplementedError

    def _waiting_for(self, server: Server) -> list[Request]:
        """What waits for a server."""
        return [request for request in self.waiting if self.home.get(request.number, server.number) == server.number]

    def _queue(self, server: Server, bin_: int) -> list[Request]:
        """What a choice admits from, in order; `any` offers overdue requests only where no other waits."""
        queue = self._waiting_for(server)
        if bin_ != self.num_bins:
            queue = [request for request in queue if request.bin == min(bin_, self.num_bins)]
        if self.options.srpt:
            return sorted(queue, key=lambda request: (request.remaining, request.number))
        if self.options.returned == "ordered":
            return sorted(queue, key=lambda request: (request.key, request.number))
        return in_order_of_any(queue) if bin_ == self.num_bins else sorted(queue, key=Request.order)

    def _exits(self) -> bool:
        """Those whose time is over leave; whether any did."""
        gone = leaving(self.config, self.waiting, self.now)
        for request in gone:
            self._lose(request)
        return bool(gone)

    def _lose(self, request: Request) -> None:
        """A request has left without service."""
        self.waiting.remove(request)
        self.in_system -= 1
        self._event()
        self.plan.ended(request, self.now)

    def _refuse_first(self, server: Server, bin_: int, number: int) -> None:
        kind = None
        while number and (queue := self._queue(server, bin_)) and kind in (None, bool(queue[0].overdue)):
            kind = bool(queue[0].overdue)
            refuse(queue[0], "scheduler", self.now)
            self._lose(queue[0])
            number -= 1
