"""docs/reference/semantics.md, one instant after the other."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.requests import Requests
from tests.oracles.batch.admission import admitted, overdue_members
from tests.oracles.batch.batches import play_batch
from tests.oracles.batch.controllers import ChoiceControllers
from tests.oracles.batch.latency import safe_tbt_s
from tests.oracles.batch.requests import (
    COMPLETED,
    DROPPED,
    IN_SERVICE,
    REJECTED,
    WAITING,
    Bin,
    Request,
    in_order_of_any,
    load,
    make_overdue,
    move_overdue,
)
from tests.oracles.batch.result import Batch, Decision, ReferenceResult, Server
from tests.oracles.batch.view import Decide, LastBatch, View
from tests.oracles.leaving import Gate, leaving, next_exit, refuse
from tests.oracles.sessions import Plan
from tests.oracles.ticks import is_tick, next_tick

PREEMPTION, COMPLETION = range(2)


class ReferenceSimulator:
    """docs/reference/semantics.md, one instant after the other.

    ``noise`` gives the z of every batch in order of dispatch where a profile has noise; ``tbt_s``, where
    given, is taken as D without any check.
    """

    def __init__(
        self,
        config: SimConfig,
        requests: Requests,
        decide: Decide,
        *,
        noise: Iterable[float] = (),
        tbt_s: float | None = None,
    ) -> None:
        self.config = config
        self.decide = decide
        self.noise: Iterator[float] = iter(noise)
        self.requests: list[Request] = []  # those that arrived
        self.plan = Plan(requests, lambda row, number, arrival: load(config, requests, row, number, arrival))
        self.num_bins = config.queueing.num_bins
        self.bins = [Bin() for _ in range(config.queueing.num_queues)]  # the last may be the overdue queue
        self.servers = [Server(i, server.profile, server.eta) for i, server in enumerate(config.servers)]
        tbt = safe_tbt_s(config) if tbt_s is None else tbt_s
        self.choices = range(self.num_bins + 1 + config.queueing.has_overdue)  # bins, any, overdue
        self.controllers = [ChoiceControllers(config, tbt) for _ in self.choices]
        self.now = 0.0
        self.gate = Gate(config)
        # (time, server, order on that server, kind, request number, tokens): sorts as the contract says
        self.events: list[tuple[float, int, int, int, int, int]] = []
        self.event_number = 0
        self.tick_armed = True
        self.batches: list[Batch] = []
        self.decisions: list[Decision] = []
        self.empty_choices = 0
        self.in_system = 0
        self.integral = 0.0

    # ---- the loop

    def run(self) -> ReferenceResult:
        """Run until nothing can come any more, or to the horizon (events at the horizon still happen)."""
        horizon = self.config.horizon_s
        while (time := self._next_time()) <= horizon and math.isfinite(time):
            self._advance(time)
            self._server_events()
            self._arrivals()
            while self._exits():
                self._arrivals()
            self._timers()
            self._move_overdue()
            self._decide_all()
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
        times = [math.inf]
        if self.events:
            times.append(self.events[0][0])
        if self._free() and self._waiting():
            times += [self._hold_time(), self._tick_time()]
        others = min([*times, next_exit(self.config, self._waiting())])
        return min(others, self.plan.next_arrival(others))

    def _waiting(self) -> list[Request]:
        return [request for bin_ in self.bins for request in bin_.waiting]

    def _free(self) -> list[Server]:
        return [server for server in self.servers if server.batch is None]

    def _hold_time(self) -> float:
        """The hold timer ahead, or inf (for use while a server is free and a request waits)."""
        oldest = self._oldest()
        time = math.inf if oldest is None else oldest.arrival + self.config.queueing.hold_s
        return time if time > self.now else math.inf

    def _oldest(self) -> Request | None:
        """The waiting request of smallest number that is not overdue, if any."""
        in_time = [request for request in self._waiting() if not request.overdue]
        return min(in_time, key=lambda request: request.number, default=None)

    def _tick_time(self) -> float:
        """The tick ahead, or inf: after one that woke the servers there is none until something happens."""
        tick = self.config.queueing.tick_s
        if not self.tick_armed or math.isinf(tick):
            return math.inf
        return next_tick(tick, self.now)

    def _is_tick(self) -> bool:
        return is_tick(self.config.queueing.tick_s, self.now)

    # ---- (1) server events

    def _server_events(self) -> None:
        while self.events and self.events[0][0] == self.now:
            _, server, _, kind, number, tokens = heapq.heappop(self.events)
            self.tick_armed = True
            if kind == PREEMPTION:
                self._preempt(self.requests[number], tokens)
            else:
                self._complete(self.servers[server])

    def _preempt(self, request: Request, tokens: int) -> None:
        request.generated += tokens
        request.predicted = request.generated + 1
        request.returned = True
        request.preemptions += 1
        request.status = WAITING
        self.bins[request.bin].add(request)

    def _complete(self, server: Server) -> None:
        batch = server.batch
        assert batch is not None
        server.batch = None
        run = batch.run
        done = [self.requests[number] for number in batch.members if number in run.last_token]
        for request in done:
            request.status = COMPLETED
            request.completion = request.last_token if self.config.release == "own" else self.now
        if run.dropped is not None:
            self.requests[run.dropped].status = DROPPED
            self.plan.ended(self.requests[run.dropped], self.now)
        self.in_system -= len(done) + (run.dropped is not None)
        server.last = LastBatch(
            completed_batches=server.last.completed_batches + 1,
            size=len(batch.members),
            service_s=self.now - batch.dispatch,
            max_e2e_s=max((request.completion - request.arrival for request in done), default=0.0),
            peak_kv_share=batch.peak_tokens / server.eta,
        )
        lengths = [request.prompt + request.output for request in done]
        for choice in sorted({batch.bin, self.num_bins}):
            self.controllers[choice].update(self.now, lengths, run)

    # ---- (2) arrivals

    def _arrivals(self) -> None:
        while (request := self.plan.arrivals(self.now)) is not None:
            self.requests.append(request)
            self.tick_armed = True
            if request.prompt + 1 > self.config.max_eta:
                request.status = REJECTED
                self.plan.ended(request, self.now)
            elif reason := self.gate.reason(self.now, len(self._waiting())):
                refuse(request, reason, self.now)
                self.plan.ended(request, self.now)
            else:
                self.in_system += 1
                self.bins[request.bin].add(request)

    # ---- and those who leave without service

    def _exits(self) -> bool:
        """Those whose time is over leave; whether any did."""
        gone = leaving(self.config, self._waiting(), self.now)
        for request in gone:
            self._lose(request)
        return bool(gone)

    def _lose(self, request: Request) -> None:
        """A request has left: an event."""
        self.bins[request.bin].remove(request)
        self.in_system -= 1
        self.tick_armed = True
        self.plan.ended(request, self.now)

    # ---- (3) timers

    def _timers(self) -> None:
        """A timer only wakes the servers, and every instant does; what remains is to remember the tick."""
        if self._is_tick() and self._free() and self._waiting():
            self.tick_armed = False

    # ---- (4) decisions

    def _move_overdue(self) -> None:
        waiting = self._waiting()
        if move_overdue(self.config, waiting, self.requests, self.now):
            self._sort_anew(waiting)

    def _sort_anew(self, waiting: Iterable[Request]) -> None:
        for bin_ in self.bins:
            bin_.waiting = []
        for request in waiting:
            self.bins[request.bin].add(request)

    def _decide_all(self) -> None:
        """Ask the free servers in number order; one that cannot be served is parked until the next instant."""
        for server in self._free():
            any_moved = True
            while any_moved and server.batch is None:  # where all became overdue it is asked again
                if not self._waiting():
                    return
                bin_, size = self._ask(server)
                if size == 0:
                    return
                if size < 0:
                    self._refuse_first(bin_, -size)
                    continue
                members, any_moved = self._members_of(server, bin_, size)
                if members:
                    self._launch(server, bin_, members)

    def _ask(self, server: Server) -> tuple[int, int]:
        """What the policy wants for a server, after masks and clips; size 0 is wait."""
        view = self._view(server)
        bin_, size = (int(value) for value in self.decide(view))
        if bin_ not in self.choices or (size < 0 and self.config.queueing.refusals == "off"):
            raise ValueError(f"decision ({bin_}, {size}) is not allowed")
        self.decisions.append(Decision(self.now, server.number, bin_, size, view.lengths[: self.num_bins]))
        if size == 0:
            return (bin_, 0) if view.can_wait else (self.num_bins, self.config.max_batch)
        if view.lengths[bin_] == 0:
            self.empty_choices += 1
            bin_ = self.num_bins
        return bin_, min(size, self.config.max_batch)

    def _refuse_first(self, bin_: int, number: int) -> None:
        kind = None
        while number and (queue := self._queue(bin_)) and kind in (None, bool(queue[0].overdue)):
            kind = bool(queue[0].overdue)
            refuse(queue[0], "scheduler", self.now)
            self._lose(queue[0])
            number -= 1

    def _can_wait(self) -> bool:
        """Can any event come?  (Asked while a server is free and a request waits.)"""
        busy = any(server.batch is not None for server in self.servers)
        arrivals = bool(self.plan.due)
        timers = math.isfinite(self._hold_time()) or math.isfinite(self._tick_time())
        return busy or arrivals or timers or math.isfinite(next_exit(self.config, self._waiting()))

    def _queue(self, bin_: int) -> list[Request]:
        """What a choice admits from, in order; `any` offers overdue requests only where no other waits."""
        if bin_ == self.num_bins:
            return in_order_of_any(self._waiting())
        return list(self.bins[min(bin_, self.num_bins)].waiting)

    def _view(self, server: Server) -> View:
        queues = [self._queue(choice) for choice in self.choices]
        oldest = self._oldest()
        return View(
            now=self.now,
            server=server.number,
            num_bins=self.num_bins,
            max_batch=self.config.max_batch,
            lengths=tuple(len(queue) for queue in queues),
            head_number=tuple(queue[0].number if queue else -1 for queue in queues),
            head_arrival=tuple(queue[0].arrival if queue else math.nan for queue in queues),
            head_prompt=tuple(queue[0].prompt if queue else 0 for queue in queues),
            head_predicted=tuple(queue[0].predicted if queue else 0 for queue in queues),
            queues=tuple(tuple(request.number for request in queue) for queue in queues),
            targets=tuple(controller.target for controller in self.controllers),
            low=tuple(controller.sla.low for controller in self.controllers),
            high=tuple(controller.sla.high for controller in self.controllers),
            free_servers=len(self._free()),
            waiting=len(self._waiting()),
            oldest_number=-1 if oldest is None else oldest.number,
            oldest_arrival=math.inf if oldest is None else oldest.arrival,
            can_wait=self._can_wait(),
            tick=self._is_tick(),
            last=server.last,
        )

    def _members_of(self, server: Server, bin_: int, size: int) -> tuple[list[Request], bool]:
        """The members of the next batch after all that become overdue in it have left, and whether any had to."""
        any_moved = False
        kind = bool(self._queue(bin_)[0].overdue)
        while True:
            members = admitted(self.config, server, self._queue(bin_), size, kind, self.now)
            moved = [] if kind else overdue_members(self.config, server, members, self.now)
            for request in moved:
                if self.config.queueing.refuses_overdue:
                    refuse(request, "deadline", self.now)
                    self._lose(request)
                else:
                    make_overdue(self.config, request, self.requests)
            if not moved:
                return members, any_moved
            any_moved = True
            self._sort_anew(self._waiting())

    def _launch(self, server: Server, bin_: int, members: list[Request]) -> None:
        """Start a batch and note in the heap what will become of it."""
        sigma = server.profile.noise_sigma
        scale = math.exp(sigma * next(self.noise) - sigma * sigma / 2) if sigma else 1.0
        run = play_batch(server.profile, server.eta, members, scale)
        start = self.now + self.config.overhead_s
        end = start + run.end
        numbers = tuple(request.number for request in members)
        server.batch = Batch(
            len(self.batches), server.number, bin_, numbers, self.now, start, end, run.peak_tokens, run
        )
        self.batches.append(server.batch)
        for request in members:
            self.bins[request.bin].remove(request)
            request.status = IN_SERVICE
            if math.isnan(request.dispatch):
                request.dispatch = self.now
            if math.isnan(request.first_token):
                request.first_token = start + run.first_token
            if request.number in run.last_token:
                request.last_token = start + run.last_token[request.number]
                self.plan.will_end(request, request.last_token if self.config.release == "own" else end)
        for offset, number, tokens in run.preempted:
            self._schedule(start + offset, server, PREEMPTION, number, tokens)
        self._schedule(end, server, COMPLETION, -1, 0)

    def _schedule(self, time: float, server: Server, kind: int, number: int, tokens: int) -> None:
        self.event_number += 1
        heapq.heappush(self.events, (time, server.number, self.event_number, kind, number, tokens))

    # ---- the end

    def _result(self) -> ReferenceResult:
        """Stamps that lie behind the horizon did not happen."""
        self.requests += self.plan.never_sent()

        def stamps(name: str) -> NDArray[np.float64]:
            values = np.array([getattr(request, name) for request in self.requests], dtype=np.float64)
            values[values > self.config.horizon_s] = math.nan
            return values

        for batch in self.batches:
            if batch.end > self.config.horizon_s:
                batch.end = math.nan
        return ReferenceResult(
            planned=self.plan.planned,
            arrival=np.array([request.arrival for request in self.requests]),
            dispatch=stamps("dispatch"),
            first_token=stamps("first_token"),
            last_token=stamps("last_token"),
            completion=stamps("completion"),
            left=stamps("left"),
            status=np.array([request.status for request in self.requests]),
            reason=[request.reason for request in self.requests],
            preemptions=np.array([request.preemptions for request in self.requests]),
            batches=self.batches,
            decisions=self.decisions,
            empty_choices=self.empty_choices,
            controllers=[controller.state(self.now) for controller in self.controllers],
            trace=[controller.trace for controller in self.controllers],
            in_system_integral=self.integral,
            end=self.now,
        )
