"""Where an arriving request goes (docs/reference/continuous.md, Routing)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.oracles.batch.requests import Request
from tests.oracles.continuous.server import BLOCK, Server


class Router:
    """Sends requests to servers; with `pull` they are sent nowhere."""

    def __init__(self, routing: str, servers: Sequence[Server]) -> None:
        self.routing = routing
        self.servers = servers
        self.last = -1

    @property
    def pushes(self) -> bool:
        """Whether servers have queues of their own."""
        return self.routing != "pull"

    def fits_somewhere(self, request: Request) -> bool:
        """Whether any server can ever serve it."""
        return any(request.prompt <= server.eta for server in self.servers)

    def send(self, request: Request, waiting: dict[int, list[Request]]) -> int:
        """The server that gets it; ``waiting`` are the requests that wait for each."""
        candidates = [server for server in self.servers if request.prompt <= server.eta]
        if self.routing == "round-robin":
            count = len(self.servers)
            self.last = min((server.number for server in candidates), key=lambda s: (s - self.last - 1) % count)
            return self.last
        if self.routing == "least-outstanding":
            return min(candidates, key=lambda s: (len(waiting[s.number]) + len(s.members), s.number)).number
        if self.routing == "join-shortest-kv":
            return min(candidates, key=lambda s: (self._load(s, waiting[s.number]), s.number)).number
        raise ValueError(f"unknown routing {self.routing!r}")

    @staticmethod
    def _load(server: Server, waiting: Sequence[Request]) -> float:
        blocks = sum(member.promised for member in server.members)
        if server.cache:
            to_take = (server.cache.lacks(member, member.prompt) for member in server.prefilling)
            blocks = server.cache.pool.in_use + sum(to_take)
        tokens = BLOCK * blocks + sum(request.prompt + request.generated for request in waiting)
        return tokens / (1 if math.isinf(server.eta) else server.eta)
