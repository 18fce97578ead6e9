"""Who has to leave a server for the next iteration to fit (docs/reference/continuous.md, 3.4 and 11.6)."""

from __future__ import annotations

from tests.oracles.batch.requests import DROPPED, WAITING, Request
from tests.oracles.continuous.cache import Cache, Key
from tests.oracles.continuous.options import Options
from tests.oracles.continuous.server import Member, Server
from tests.oracles.sessions import Plan


class Room:
    """The part of the simulator that makes room."""

    options: Options
    waiting: list[Request]
    in_system: int
    now: float
    plan: Plan

    def _event(self, *, timer: bool = False) -> None:
        raise NotImplementedError

    def _make_room(self, server: Server) -> bool:
        """Members leave while the next iteration does not fit."""
        while self._need(server) > server.blocks:
            server.quiet = self.options.ahead
            self._newest_leaves(server)
        return False

    def _newest_leaves(self, server: Server) -> None:
        newest = max(server.members + server.leaving, key=lambda member: member.request.number)
        if newest in server.leaving:
            server.leaving.remove(newest)
            newest.request.preemptions += 1
            if server.cache:
                server.cache.leave(newest)
        elif len(server.members) + len(server.leaving) == 1:
            server.members.remove(newest)
            if server.cache:
                server.cache.leave(newest)
            newest.request.status = DROPPED
            self.in_system -= 1
            self._event()
            self.plan.ended(newest.request, self.now)
        else:
            self._preempt(server, newest)

    def _compose(self, server: Server, cache: Cache) -> bool:
        """Members take the blocks of the next iteration and name full ones; was a name given that somebody lacks?"""
        everyone = list(server.members)

        def end(member: Member) -> int:
            if member.decoding:
                return member.context
            _, chunks = server.plan(self.options.prefill, self.options.token_budget)
            return member.prefilled + dict(chunks).get(member, 0)

        left = False
        for member in everyone:
            while member in server.members and cache.lacks(member, end(member)) > cache.pool.free:
                self._newest_leaves(server)
                left = True
            if member in server.members:
                cache.hold(member, end(member))
        keys: list[Key] = []
        for member in server.members:
            if member.decoding:
                keys += cache.name(member, member.context - self.options.ahead)
            else:
                cache.name(member, end(member))
        server.quiet = left and (self.options.ahead or bool(server.members))
        named = cache.lacked is not None and cache.lacked in keys
        server.wants |= named
        return named

    def _need(self, server: Server) -> int:
        return server.need(self.options.prefill, self.options.token_budget) + server.leaving_blocks

    def _preempt(self, server: Server, member: Member) -> None:
        server.members.remove(member)
        if server.cache:
            server.cache.leave(member)
        request = member.request
        request.generated += member.tokens
        request.predicted = max(request.predicted, request.generated + 1)
        request.returned = True
        request.preemptions += 1
        request.status = WAITING
        self.waiting.append(request)
        self._event()
