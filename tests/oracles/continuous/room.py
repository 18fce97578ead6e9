"""Who has to leave a server for the next iteration to fit (docs/reference/continuous.md, 3.4 and 11.6)."""

from __future__ import annotations

import math

from tests.oracles.batch.requests import DROPPED, WAITING, Request
from tests.oracles.continuous.cache import Cache, Key
from tests.oracles.continuous.options import Options
from tests.oracles.continuous.server import Member, Server
from tests.oracles.sessions import Plan


class Room:
    """The part of the simulator that makes room."""

    options: Options
    discipline: str
    waiting: list[Request]
    requests: list[Request]
    now: float
    in_system: int
    plan: Plan
    completing: list[Member]

    def _event(self, *, timer: bool = False) -> None:
        raise NotImplementedError

    def _waiting_for(self, server: Server) -> list[Request]:
        raise NotImplementedError

    def _knows_of_another(self, server: Server) -> bool:
        """Does the composition at this boundary know of more than one request, arrivals of this instant included?"""
        waits = [request for request in self._waiting_for(server) if request.arrival <= server.known]
        comes = self.plan.next_arrival(self.now) <= self.now and not self.options.ahead
        return len(server.members) + len(server.leaving) + len(waits) + comes > 1

    def _limit_at_boundary(self, server: Server) -> None:
        """Where members are left to prefill."""
        if server.prefilling:
            self._limit_chunks(server, self._knows_of_another(server))

    def _limit_at_admission(self, server: Server) -> None:
        """Where no member is."""
        if not server.prefilling:
            seated = len(server.members) + len(server.leaving)
            self._limit_chunks(server, seated + len(self._waiting_for(server)) > 1)

    def _budget_of_first_chunk(self, server: Server) -> float:
        """Tokens that the first chunk of a request may have which joins now."""
        if self.options.prefill == "first":
            return math.inf
        return min(self.options.token_budget - len(server.decoding) - server.asked_tokens, server.most)

    def _limit_chunks(self, server: Server, others: bool) -> None:
        """A request that is alone may use the whole budget."""
        server.most = self.options.max_chunk if others else math.inf

    def _make_room(self, server: Server) -> bool:
        """Members leave while the next iteration does not fit."""
        while self._need(server) > server.blocks:
            self._victim_leaves(server)
            server.quiet = self.options.ahead or (self.options.strict and bool(server.members))
        return False

    def _badness(self, member: Member) -> tuple[float, int]:
        """The member with the largest is preempted."""
        first = {
            "newest": 0.0,
            "last-class": float(member.request.slo_class),
            "least-computed": -float(member.context - 1 if member in self.completing else member.computed),
        }[self.options.victim]
        return first, member.request.number

    def _victim_leaves(self, server: Server) -> None:
        self.completing = server.leaving
        newest = max(server.members + server.leaving, key=self._badness)
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
                self._victim_leaves(server)
                left = True
            if member in server.members:
                cache.hold(member, end(member))
        keys: list[Key] = []
        in_turn = sorted(server.members, key=lambda member: self.options.ahead and not member.decoding)
        for member in in_turn:  # with asynchronous scheduling tokens that came are named before the composition
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
        lacking = request.predicted - request.generated
        request.generated += member.tokens
        request.predicted = max(request.predicted, request.generated + 1)
        if self.options.returned == "ordered" and self.discipline == "sjf":
            request.key += request.predicted - request.generated - lacking
        request.returned = True
        request.preemptions += 1
        request.status = WAITING
        self.waiting.append(request)
        self._event()
