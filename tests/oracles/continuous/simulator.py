"""docs/reference/continuous.md, one iteration after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from llmsched_env.config import SimConfig
from llmsched_env.requests import Requests
from tests.oracles.batch.requests import (
    COMPLETED,
    IN_SERVICE,
    REJECTED,
    Request,
    move_overdue,
)
from tests.oracles.continuous.admission import broken_rules, has_free_slot, reservation
from tests.oracles.continuous.cache import Cache, Contents
from tests.oracles.continuous.durations import noise_factor
from tests.oracles.continuous.options import Options, plan_of
from tests.oracles.continuous.queues import Queues
from tests.oracles.continuous.room import Room
from tests.oracles.continuous.routing import Router
from tests.oracles.continuous.server import BLOCK, Iteration, Member, Server, started_segment
from tests.oracles.continuous.targets import Controllers
from tests.oracles.continuous.view import ContinuousResult, Decide, Decision, View, columns, oldest_arrival
from tests.oracles.leaving import Gate, next_exit, refuse
from tests.oracles.ticks import is_tick, next_tick


class ContinuousSimulator(Queues, Room):
    """A run of the engine `continuous`.

    ``options`` where the configuration has none of its own; ``noise_key`` is the lane's key; ``tbt_s``, where
    given, is taken as D without any check.
    """

    def __init__(
        self,
        config: SimConfig,
        requests: Requests,
        decide: Decide,
        options: Options | None = None,
        *,
        noise_key: int = 0,
        tbt_s: float | None = None,
    ) -> None:
        self.config = config
        self.decide = decide
        self.discipline = config.queueing.discipline
        self.options = Options.of(config) if options is None else options
        self.noise_key = noise_key
        self.requests: list[Request] = []
        self.plan = plan_of(config, requests)
        self.num_bins = config.queueing.num_bins
        self.choices = range(self.num_bins + 1 + config.queueing.has_overdue)  # bins, any, overdue
        self.servers = [
            Server(i, server.profile, server.eta if math.isinf(server.eta) else int(server.eta) // BLOCK)
            for i, server in enumerate(config.servers)
        ]
        if self.options.prefix_cache == "on":
            contents = Contents(requests, self.plan.rows)
            for server in self.servers:
                server.cache = Cache(int(server.blocks), contents)
        self.router = Router(self.options.routing, self.servers)
        self.controllers = Controllers(config, self.servers, self.options.window_s, tbt_s)
        self.waiting: list[Request] = []
        self.home: dict[int, int] = {}  # request -> server that it was sent to
        self.last_token: dict[int, float] = {}  # request -> when it got its newest token
        self.now = 0.0
        self.event_now = self.segment_over = False  # did an event happen at this instant, did a segment end?
        self.gate = Gate(config)
        self.event_time = -math.inf  # of the last event
        self.hold_due = math.inf
        self.tick_armed = True
        self.decisions: list[Decision] = []
        self.iterations: list[tuple[float, int, int, int]] = []
        self.gaps: list[float] = []
        self.waits = self.empty_choices = self.segments = self.in_system = 0
        self.integral = 0.0

    # ---- the loop

    def run(self) -> ContinuousResult:
        """Run until nothing can come any more, or to the horizon (events at the horizon still happen)."""
        horizon = self.config.horizon_s
        while (time := self._next_time()) <= horizon and math.isfinite(time):
            self._advance(time)
            self.event_now = self.segment_over = False
            for server in self.servers:
                if server.boundary == self.now:
                    self._end_iteration(server)
            self._arrivals()
            while self._exits():
                self._arrivals()
            self._timers()
            if self.event_now or self.segment_over:
                move_overdue(self.config, self.waiting, self.requests, self.now)
            for server in self.servers:
                self._ask_while_it_admits(server)
            for server in self.servers:
                self._go_on(server)
        if self.in_system:
            assert math.isfinite(horizon), "requests left and nothing to come"
        if self.plan.left or self.in_system:
            self._advance(horizon)
        return self._result()

    def _advance(self, time: float) -> None:
        assert time >= self.now
        self.integral += self.in_system * (time - self.now)
        self.now = time

    def _next_time(self) -> float:
        """When the next thing happens."""
        times = [server.boundary for server in self.servers]
        self.hold_due = self._hold_time()
        others = min([*times, self.hold_due, self._tick_time(), next_exit(self.config, self.waiting)])
        return min(others, self.plan.next_arrival(others))

    def _event(self, *, timer: bool = False) -> None:
        """Something happened after which every server wants to be asked."""
        self.event_now, self.event_time = True, self.now
        for server in self.servers:
            server.wants = True
        self.tick_armed |= not timer

    # ---- (1) the end of an iteration

    def _end_iteration(self, server: Server) -> None:
        iteration, segment = server.iteration, server.segment
        assert iteration is not None and segment is not None
        segment.done += 1
        server.known = iteration.start if self.options.ahead else math.inf
        server.account(iteration)
        prefilled = sum(chunk for _, chunk in iteration.chunks)
        self.iterations.append((self.now, server.number, len(iteration.decoders), prefilled))
        for member in iteration.decoders:
            member.tokens += 1
            self._token(member)
        done = [member for member in iteration.decoders if member.missing == 0]
        for member in sorted(done, key=lambda member: member.request.number):
            self._complete(server, member)
        for member, chunk in iteration.chunks:
            member.prefilled += chunk
        for member, _ in iteration.chunks:
            if member.decoding:
                self._first_token_of_stay(server, member)
        before = len(server.members)
        self._limit_at_boundary(server)
        named = self._compose(server, server.cache) if server.cache else self._make_room(server)
        if iteration.chunks:
            server.wants = True
        if iteration.chunks or done or len(server.members) < before or segment.over or named:
            self._end_segment(server)

    def _token(self, member: Member) -> None:
        """A member got a token at this boundary."""
        number = member.request.number
        if number in self.last_token:
            self.gaps.append(self.now - self.last_token[number])
        self.last_token[number] = self.now

    def _first_token_of_stay(self, server: Server, member: Member) -> None:
        member.tokens = 1
        self._token(member)
        if math.isnan(member.request.first_token):
            member.request.first_token = self.now
        if member.missing == 0:
            self._complete(server, member)

    def _complete(self, server: Server, member: Member) -> None:
        server.members.remove(member)
        if self.options.ahead:
            server.leaving.append(member)
        elif server.cache:
            server.cache.leave(member)
        request = member.request
        request.status = COMPLETED
        request.last_token = request.completion = self.now
        self.in_system -= 1
        self.plan.ended(request, self.now)
        self.controllers.completed(request)
        self._event()

    def _end_segment(self, server: Server) -> None:
        if server.segment is not None:
            self.segment_over = True
            server.segment = None
            self.controllers.segment_ended(server, self.now)

    # ---- (2) arrivals

    def _arrivals(self) -> None:
        while (request := self.plan.arrivals(self.now)) is not None:
            self.requests.append(request)
            self._event()
            if not self.router.fits_somewhere(request):
                request.status = REJECTED
                self.plan.ended(request, self.now)
                continue
            queue = self.waiting
            if self.router.pushes:
                waiting = {server.number: self._waiting_for(server) for server in self.servers}
                self.home[request.number] = self.router.send(request, waiting)
                queue = waiting[self.home[request.number]]
            if reason := self.gate.reason(self.now, len(queue)):
                refuse(request, reason, self.now)
                self.plan.ended(request, self.now)
                continue
            self.in_system += 1
            self.waiting.append(request)

    # ---- (3) timers

    def _hold_time(self) -> float:
        """The hold timer ahead, or inf."""
        time = oldest_arrival(self.waiting) + self.config.queueing.hold_s
        return time if time > self.now else math.inf

    def _tick_time(self) -> float:
        """The tick ahead, or inf: a spent one does not come again until something happens."""
        tick = self.config.queueing.tick_s
        if not self.waiting or not self.tick_armed or math.isinf(tick):
            return math.inf
        return next_tick(tick, self.now)

    def _is_tick(self) -> bool:
        return is_tick(self.config.queueing.tick_s, self.now)

    def _timers(self) -> None:
        if self.waiting and self.hold_due == self.now:
            self._event(timer=True)
        if self.waiting and self._is_tick() and self.tick_armed:
            self._event(timer=True)
            self.tick_armed = False

    # ---- (4) decisions

    def _ask_while_it_admits(self, server: Server) -> None:
        at_boundary = server.boundary == self.now or (server.iteration is None and self.event_now)
        while at_boundary and server.wants and self._waiting_for(server):
            if not has_free_slot(server, self.options, self.config.max_batch) and not server.know_all_if_idle():
                return
            if self._ask(server):
                continue
            if not server.know_all_if_idle():
                server.wants = self.event_time > server.known
                return

    def _can_wait(self) -> bool:
        """Can any event come?"""
        running = any(server.members for server in self.servers)
        arrivals = bool(self.plan.due)
        timers = math.isfinite(self._hold_time()) or math.isfinite(self._tick_time())
        return running or arrivals or timers or math.isfinite(next_exit(self.config, self.waiting))

    def _ask(self, server: Server) -> bool:
        """Put the question and do what the answer says; whether it admitted or refused any request."""
        move_overdue(self.config, self.waiting, self.requests, self.now)
        view = self._view(server)
        bin_, size = answer = self.decide(view)
        if bin_ not in self.choices or (size < 0 and self.config.queueing.refusals == "off"):
            raise ValueError(f"decision {answer} is not allowed")
        admitted: list[int] = []
        preempted: list[int] = []
        if server.cache:
            server.cache.lacked = None
        if size == 0 and view.can_wait:
            self.waits += 1
        else:
            if size == 0:
                bin_, size = self.num_bins, self.config.max_batch
            elif view.queue_length[bin_] == 0:
                self.empty_choices += 1
                bin_ = self.num_bins
            if size < 0:
                self._refuse_first(server, bin_, -size)
            else:
                admitted, preempted = self._admit(server, bin_, min(size, self.config.max_batch))
        self.decisions.append(Decision(self.now, server.number, *answer, tuple(admitted), tuple(preempted), view))
        return bool(admitted) or size < 0

    def _admit(self, server: Server, bin_: int, size: int) -> tuple[list[int], list[int]]:
        """Admit overdue requests, or others, in order until a rule is broken: (admitted, preempted for them)."""
        admitted: list[int] = []
        preempted: list[int] = []
        kind = None
        self._limit_at_admission(server)
        while queue := self._queue(server, bin_):
            head = queue[0]
            if kind not in (None, bool(head.overdue)):
                break
            kind = bool(head.overdue)
            broken = broken_rules(server, head, size, self.options)
            while self.options.srpt and broken and broken <= {1, 3, 4}:
                longest = max(server.members, key=lambda m: (m.missing, m.request.number), default=None)
                if longest is None or longest.missing <= head.remaining:
                    break
                self._end_segment(server)
                self._preempt(server, longest)
                preempted.append(longest.request.number)
                broken = broken_rules(server, head, size, self.options)
            if broken == {3} and server.cache:
                server.cache.note_refusal(head)
            if broken:
                break
            self._end_segment(server)
            self._start_stay(server, head)
            admitted.append(head.number)
        return admitted, preempted

    def _start_stay(self, server: Server, request: Request) -> None:
        self.waiting.remove(request)
        request.status = IN_SERVICE
        if math.isnan(request.dispatch):
            request.dispatch = self.now
        member = Member(request, request.context, request.remaining, reservation(server, request))
        budget = self._budget_of_first_chunk(server)
        server.members.append(member)
        if server.cache:
            server.cache.admit(member, budget)

    def _view(self, server: Server) -> View:
        queues = [self._queue(server, choice) for choice in self.choices]
        return View(
            now=self.now,
            server=server.number,
            num_bins=self.num_bins,
            overdue=self.choices[-1] if len(self.choices) > self.num_bins + 1 else -1,
            num_servers=len(self.servers),
            max_batch=self.config.max_batch,
            can_wait=int(self._can_wait()),
            at_tick=int(self._is_tick()),
            waiting=len(self._waiting_for(server)),
            oldest_arrival=oldest_arrival(self._waiting_for(server)),
            running=len(server.members) + len(server.leaving),
            decoding=len(server.decoding),
            kv_used=BLOCK * self._need(server),
            queue_length=tuple(len(queue) for queue in queues),
            head_number=tuple(queue[0].number if queue else -1 for queue in queues),
            target=tuple(self.controllers.target(choice, server) for choice in self.choices),
            **self._cache_view(server.cache, queues),
        )

    @staticmethod
    def _cache_view(cache: Cache | None, queues: list[list[Request]]) -> dict[str, Any]:
        if cache is None:
            return {"prefix_cache": 0, "head_cached": (0,) * len(queues), "cache_hit_rate": 0.0, "kv_kept": 0}
        heads = [queue[0] if queue else None for queue in queues]
        found = (BLOCK * len(cache.find(head.number, head.context)) if head else 0 for head in heads)
        pool = cache.pool
        rate = pool.cached / pool.looked_up if pool.looked_up else 0.0
        kept = BLOCK * len(pool.queue)
        return {"prefix_cache": 1, "head_cached": tuple(found), "cache_hit_rate": rate, "kv_kept": kept}

    # ---- (5) the next iteration

    def _go_on(self, server: Server) -> None:
        """A server at a boundary starts its next segment, or goes on with the one it is in."""
        if server.boundary > self.now and server.iteration is not None:
            return
        server.know_all()
        if not server.members:
            server.iteration = None
            return
        decoders, chunks = server.plan(self.options.prefill, self.options.token_budget)
        if server.segment is None:
            factor = noise_factor(server.profile.noise_sigma, self.noise_key, self.segments)
            self.segments += 1
            server.segment = started_segment(server, self.now, factor, self.config.overhead_s, decoders, chunks)
        segment = server.segment
        assert segment.done == 0 or (not chunks and segment.batch == len(decoders))
        end = segment.boundary(segment.done + 1)
        server.iteration = Iteration(self.now, end, len(server.decoding), decoders, chunks)
        server.peak = max(server.peak, server.used(decoders, chunks))
        assert server.peak <= server.blocks, f"{server.peak} blocks used of {server.blocks}"

    # ---- the end

    def _result(self) -> ContinuousResult:
        self.requests += self.plan.never_sent()
        return ContinuousResult(
            planned=self.plan.planned,
            **columns(self.requests),
            decisions=self.decisions,
            waits=self.waits,
            empty_choices=self.empty_choices,
            segments=self.segments,
            iterations=self.iterations,
            busy=[server.busy for server in self.servers],
            peak_blocks=[server.peak for server in self.servers],
            pools=[server.cache.pool for server in self.servers if server.cache],
            gaps=np.array(self.gaps),
            in_system_integral=self.integral,
            end=self.now,
        )
