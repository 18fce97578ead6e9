"""The slow oracle of the batch engine: docs/reference/semantics.md as plain Python.

Nothing here is fast or clever.  A heap of events, sorted lists for queues, and batches that are played
token by token, each member's KV growing by one token a step, so that the closed forms of the compiled
simulator are checked against something that does not use them.  It shares with the library only the
descriptions of the input (configuration, requests, profiles).

Example::

    result = ReferenceSimulator(config, requests, multibin()).run()
    result.completion - requests.arrival_s
"""

from __future__ import annotations

import bisect
import heapq
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import Controller, SimConfig
from llmsched_env.core.constants import L0_EVERY
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests

WAITING, IN_SERVICE, COMPLETED, REJECTED, DROPPED = range(5)
"""Status of a request; at the end of a run the first two are together `unfinished`."""

PRIORITY_REFERENCE_TOKENS = 64
"""Predicted length from which the `priority` discipline gives no bonus to short requests."""


# --------------------------------------------------------------------------------------------------
# Latency
# --------------------------------------------------------------------------------------------------


def prefill_s(profile: Profile, lengths: Sequence[int]) -> float:
    """Seconds to prefill a batch whose members bring ``lengths`` tokens."""
    c = profile.coefficients
    total = sum(lengths)
    squares = sum(length * length for length in lengths)
    if profile.form in ("split", "floor"):
        return max(c["p0"], c["p1"] * total + c["p2"] * squares) / 1000
    if profile.form == "affine":
        return (c["p0"] + c["p1"] * total + c["p2"] * squares) / 1000
    if profile.form == "tokens":
        return (max(c["w0"], c["e0"] + c["w1"] * total) + c["a_p"] * squares) / 1000
    if profile.form == "batch-length":
        return c["a"] / 1000
    raise ValueError(f"unknown form {profile.form!r}")


def decode_step_s(profile: Profile, batch: int, kv: float) -> float:
    """Seconds of one decode step of ``batch`` members that together hold ``kv`` tokens."""
    c = profile.coefficients
    if profile.form in ("split", "affine"):
        return (c["d0"] + c["d1"] * batch + c["d2"] * kv) / 1000
    if profile.form == "floor":
        return (max(c["d0"], c["d1"] * batch) + c["d2"] * kv) / 1000
    if profile.form == "tokens":
        return (max(c["w0"], c["e0"] + c["w1"] * batch) + c["a_d"] * kv) / 1000
    if profile.form == "batch-length":
        return c["beta"] * (1 + c["g"] * (batch - 1) / batch) / 1000
    raise ValueError(f"unknown form {profile.form!r}")


def service_alone_s(profile: Profile, prompt: int, output: int) -> float:
    """Seconds that a request of these lengths takes alone on a server."""
    seconds = prefill_s(profile, [prompt])
    if profile.form == "batch-length":
        length = output if profile.length == "output" else prompt + output
        return seconds + decode_step_s(profile, 1, 0) * length
    for tokens in range(1, output):
        seconds += decode_step_s(profile, 1, prompt + tokens)
    return seconds


def safe_tbt_s(config: SimConfig) -> float:
    """D of the SLA controller: what is asked for, or the smallest that is safe on every server.

    The time between tokens of a batch of one is taken with no KV: the smallest it can be.
    """
    slowest = max(decode_step_s(server.profile, 1, 0) for server in config.servers)
    asked, eps = config.tbt_s, config.controller.eps_s
    if asked - eps >= slowest:
        return asked
    safe = slowest + eps
    warnings.warn(
        f"a time between tokens of {asked:g} s is below what one request needs: using {safe:g} s", stacklevel=2
    )
    return safe


# --------------------------------------------------------------------------------------------------
# Requests and queues
# --------------------------------------------------------------------------------------------------


@dataclass
class Request:
    """One request and what has happened to it."""

    number: int
    arrival: float
    prompt: int
    output: int
    predicted: int
    slo_class: int
    bin: int  # where it waits
    key: float  # static order inside the bin
    due: float = math.inf  # when it becomes late
    length_bin: int = -1  # the bin of its predicted length
    late: int = 0  # how many were late when it was, itself included
    generated: int = 0
    returned: bool = False
    status: int = WAITING
    evictions: int = 0
    dispatch: float = math.nan
    first_token: float = math.nan
    last_token: float = math.nan
    completion: float = math.nan

    @property
    def context(self) -> int:
        """P: tokens of its next prefill."""
        return self.prompt + self.generated

    @property
    def remaining(self) -> int:
        """R: output tokens that it still lacks at its dispatch."""
        return self.output - self.generated

    def order(self) -> tuple[int, float, int]:
        """Sort key in a bin: the evicted first, by number; the others by key, the late as they became it."""
        if self.returned:
            return (0, 0.0, self.number)
        return (1, float(self.late) if self.late else self.key, self.number)

    def reservation(self, eta: float) -> float:
        """Tokens that it reserves on a server of capacity ``eta``."""
        return min(self.prompt + self.predicted, eta)


def discipline_key(
    config: SimConfig, arrival: float, prompt: int, output: int, predicted: int, slo_class: int
) -> float:
    """The static key of the configured discipline."""
    queueing = config.queueing
    slo = config.slos[slo_class]
    deadline = arrival + min(slo.ttft_s, slo.e2e_s)
    match queueing.discipline:
        case "fifo":
            return arrival
        case "sjf":
            return float(predicted)
        case "oracle-sjf":
            return float(output)
        case "edf":
            return deadline
        case "slack":
            return deadline - service_alone_s(config.servers[0].profile, prompt, predicted)
        case "priority":
            max_wait = queueing.max_wait_s if math.isfinite(queueing.max_wait_s) else 1.0
            return arrival / max_wait - max(0.0, 1 - predicted / PRIORITY_REFERENCE_TOKENS)
    raise ValueError(f"unknown discipline {queueing.discipline!r}")


def due(config: SimConfig, arrival: float, prompt: int, predicted: int, slo_class: int) -> float:
    """When a request is due for the late bin: max(arrival, last start); inf where there is none."""
    factor = config.queueing.late_bin
    if factor is None:
        return math.inf
    slo, profile = config.slos[slo_class], config.servers[0].profile
    prefill, service = prefill_s(profile, [prompt]), service_alone_s(profile, prompt, predicted)
    left = (
        target - min(factor * alone, max(alone, target / 2)) if math.isfinite(target) else math.inf
        for alone, target in ((prefill, slo.ttft_s), (service, slo.e2e_s))
    )
    return max(arrival, arrival + min(left))


def become_late(config: SimConfig, request: Request, others: Iterable[Request]) -> None:
    """Put a request behind all of ``others`` that are late."""
    request.late = 1 + max((other.late for other in others), default=0)
    request.bin = config.queueing.num_bins - 1


def change_the_due(config: SimConfig, waiting: Iterable[Request], everybody: Sequence[Request], now: float) -> bool:
    """Make late whoever is due; whether anybody was."""
    changed = [r for r in waiting if not r.returned and not r.late and r.due <= now]
    for request in sorted(changed, key=lambda r: (r.due, r.number)):
        become_late(config, request, everybody)
    return bool(changed)


def in_order_of_any(waiting: Iterable[Request]) -> list[Request]:
    """What `any` offers: the merge of the bins that are not late; while those are empty, the late bin."""
    everybody = sorted(waiting, key=Request.order)
    return [request for request in everybody if not request.late] or everybody


def load(config: SimConfig, requests: Requests) -> list[Request]:
    """The requests as objects, with their bins, keys, and when they become late."""
    loaded = []
    for number in range(len(requests)):
        arrival = float(requests.arrival_s[number])
        prompt = int(requests.prompt_tokens[number])
        output = int(requests.output_tokens[number])
        predicted = int(requests.predicted_tokens[number])
        slo_class = int(requests.slo_class[number])
        bin_ = sum(1 for edge in config.queueing.edges if edge <= predicted)
        key = discipline_key(config, arrival, prompt, output, predicted, slo_class)
        late = due(config, arrival, prompt, predicted, slo_class)
        loaded.append(Request(number, arrival, prompt, output, predicted, slo_class, bin_, key, late, bin_))
    return loaded


class Bin:
    """A queue, kept sorted."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, request: Request) -> None:
        """Put a request in its place."""
        bisect.insort(self.waiting, request, key=Request.order)

    def remove(self, request: Request) -> None:
        """Take a request out."""
        self.waiting = [other for other in self.waiting if other is not request]


# --------------------------------------------------------------------------------------------------
# A batch, token by token
# --------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """How a batch goes; times count from its start."""

    first_token: float
    end: float = 0.0
    last_token: dict[int, float] = field(default_factory=dict)  # request number -> offset
    evicted: list[tuple[float, int, int]] = field(default_factory=list)  # offset, request number, tokens produced
    dropped: int | None = None
    decode_s: float = 0.0
    steps: int = 0
    member_steps: int = 0
    peak_tokens: float = 0.0


def play_batch(profile: Profile, eta: float, members: Sequence[Request], scale: float = 1.0) -> Run:
    """Play a batch to its end, one token at a time; ``scale`` multiplies every duration."""
    if profile.form == "batch-length":
        return _play_batch_length(profile, eta, members, scale)
    batch = list(members)
    kv = {member.number: member.context for member in batch}
    clock = scale * prefill_s(profile, [member.context for member in batch])
    tokens = 1
    for member in batch:
        kv[member.number] += 1
    run = Run(first_token=clock)
    while True:
        held = sum(kv.values())
        assert held <= eta, f"{held} tokens held by a server of {eta}"
        run.peak_tokens = max(run.peak_tokens, held)
        for member in batch:
            if member.remaining == tokens:
                run.last_token.setdefault(member.number, clock)
        while (lacking := [member for member in batch if member.remaining > tokens]) and held + len(batch) > eta:
            victim = max(lacking, key=lambda member: member.number)
            batch.remove(victim)
            held -= kv.pop(victim.number)
            if not batch:
                run.dropped = victim.number
            else:
                run.evicted.append((clock, victim.number, tokens))
        if not lacking:
            run.end = clock
            return run
        step = scale * decode_step_s(profile, len(batch), held)
        clock += step
        run.decode_s += step
        run.steps += 1
        run.member_steps += len(batch)
        tokens += 1
        for member in batch:
            kv[member.number] += 1


def _play_batch_length(profile: Profile, eta: float, members: Sequence[Request], scale: float) -> Run:
    """The form without steps: a whole batch at once."""
    size = len(members)
    first = scale * prefill_s(profile, [])
    token = scale * decode_step_s(profile, size, 0)
    longest = max(member.remaining for member in members)
    run = Run(first_token=first)
    for member in members:
        length = member.remaining if profile.length == "output" else member.context + member.remaining
        run.last_token[member.number] = first + token * length
        run.peak_tokens += min(member.context + longest, member.reservation(eta))
    run.end = max(run.last_token.values())
    run.steps = longest - 1
    run.decode_s = token * run.steps
    run.member_steps = size * run.steps
    return run


# --------------------------------------------------------------------------------------------------
# Controllers
# --------------------------------------------------------------------------------------------------


class Average:
    """Exponential average whose first value is taken whole."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.value = math.nan

    def add(self, value: float) -> None:
        """Take a value in."""
        self.value = value if math.isnan(self.value) else (1 - self.weight) * self.value + self.weight * value


class MemoryController:
    """Algorithm 1: how many requests fit the memory of the smallest server."""

    def __init__(self, settings: Controller, eta: float, max_batch: int, l0_every: int = L0_EVERY) -> None:
        self.settings = settings
        self.eta = eta
        self.max_batch = max_batch
        self.l0_every = l0_every
        self.m1 = Average(settings.ema)
        self.m2 = Average(settings.ema)
        self.prefill_seen = False
        self.decode_seen = False
        self.recomputations = 0
        self.l0 = math.nan
        self.target = max_batch

    @property
    def mu(self) -> float:
        """Mean of prompt + output of what has completed (NaN before the first)."""
        return self.m1.value

    def update(self, lengths: Sequence[int], steps: int) -> None:
        """Take in a batch: ``lengths`` of what completed in it (not empty) and its decode steps."""
        self.m1.add(sum(lengths) / len(lengths))
        self.m2.add(sum(length * length for length in lengths) / len(lengths))
        self.prefill_seen = True
        self.decode_seen = self.decode_seen or steps > 0
        if not (self.prefill_seen and self.decode_seen):
            return
        self.prefill_seen = self.decode_seen = False
        if math.isinf(self.eta):
            return
        if self.recomputations % self.l0_every == 0:
            self.l0 = self.eta - self.mu * self._gaussian_batch()
        self.recomputations += 1
        batch = math.floor((self.eta - self.l0) / self.mu + 1e-9)
        self.target = min(max(batch, self.settings.b_min), self.max_batch)

    def _gaussian_batch(self) -> float:
        theta = NormalDist().inv_cdf(1 - self.settings.eps_memory)
        mu = self.mu
        variance = max(0.0, self.m2.value - mu * mu)
        root = math.sqrt(theta * theta * variance + 4 * mu * self.eta) - theta * math.sqrt(variance)
        return (root / (2 * mu)) ** 2


class SlaController:
    """Algorithm 2: a noisy bisection for the batch whose time between tokens is D."""

    def __init__(self, settings: Controller, tbt_s: float, max_batch: int) -> None:
        self.settings = settings
        self.tbt_s = tbt_s
        self.max_batch = max_batch
        self.tau_average = Average(settings.ema)
        self.bbar_average = Average(settings.ema)
        self.low = float(settings.b_min)
        self.high = float(max_batch)

    @property
    def tau(self) -> float:
        """Average time between tokens (NaN before the first batch with a decode step)."""
        return self.tau_average.value

    @property
    def bbar(self) -> float:
        """Average decode batch."""
        return self.bbar_average.value

    @property
    def target(self) -> int:
        """The middle of the bounds, clipped."""
        return min(max(math.floor((self.low + self.high) / 2), self.settings.b_min), self.max_batch)

    def update(self, decode_s: float, steps: int, member_steps: int) -> None:
        """Take in a batch: its decode time, its steps, and the members summed over the steps."""
        if steps == 0:
            return
        self.tau_average.add(decode_s / steps)
        self.bbar_average.add(member_steps / steps)
        alpha, delta, eps, b_min = self.settings.alpha, self.settings.delta, self.settings.eps_s, self.settings.b_min
        if self.tau > self.tbt_s + eps:
            self.high = max(self.bbar, self.low + alpha)
            self.low = max(self.low - delta, b_min)
        elif self.tau < self.tbt_s - eps:
            self.low = min(self.bbar, self.high - alpha)
            self.high = min(self.high + delta, self.max_batch)
        else:
            self.high = min(self.bbar + alpha / 2, self.max_batch)
            self.low = max(self.bbar - alpha / 2, b_min)


@dataclass(frozen=True)
class ControllerState:
    """What one choice's controllers say at a time."""

    time: float
    target: int
    memory_target: int
    sla_target: int
    low: float
    high: float
    tau: float
    bbar: float
    mu: float


class ChoiceControllers:
    """Both controllers of one bin, or of `any`, and their history."""

    def __init__(self, config: SimConfig, tbt_s: float) -> None:
        if config.controller.kind != "paper":
            raise NotImplementedError("the reference has the controllers of the paper only")
        smallest = min(server.eta for server in config.servers)
        self.memory = MemoryController(config.controller, smallest, config.max_batch)
        self.sla = SlaController(config.controller, tbt_s, config.max_batch)
        self.trace: list[ControllerState] = []

    @property
    def target(self) -> int:
        """The batch size that both allow."""
        return min(self.memory.target, self.sla.target)

    def state(self, time: float) -> ControllerState:
        """Everything at once."""
        memory, sla = self.memory, self.sla
        return ControllerState(
            time, self.target, memory.target, sla.target, sla.low, sla.high, sla.tau, sla.bbar, memory.mu
        )

    def update(self, time: float, lengths: Sequence[int], run: Run) -> None:
        """Take in a completed batch; ``lengths`` of the members that completed in it, if any."""
        if lengths:
            self.memory.update(lengths, run.steps)
        self.sla.update(run.decode_s, run.steps, run.member_steps)
        self.trace.append(self.state(time))


# --------------------------------------------------------------------------------------------------
# The simulator
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LastBatch:
    """What a server remembers of the batch that it completed last (zeros before the first)."""

    completed_batches: int = 0
    size: int = 0
    service_s: float = 0.0  # dispatch to end
    max_e2e_s: float = 0.0  # over the members that completed in it
    peak_kv_share: float = 0.0  # of eta; 0 where there is no limit


@dataclass(frozen=True)
class View:
    """What a scheduler may know when a free server is asked; lists have an entry per bin, then one for `any`."""

    now: float
    server: int
    num_bins: int
    max_batch: int
    lengths: tuple[int, ...]  # the last entry is what `any` offers
    head_number: tuple[int, ...]  # -1 where nothing waits
    head_arrival: tuple[float, ...]  # NaN where nothing waits
    head_prompt: tuple[int, ...]
    head_predicted: tuple[int, ...]
    queues: tuple[tuple[int, ...], ...]  # request numbers in order of service; in `any` no late beside others
    targets: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    free_servers: int
    waiting: int
    oldest_number: int  # smallest number that waits and is not late; -1: all are
    oldest_arrival: float  # of that one; inf: all are late
    can_wait: bool  # can any event come?
    tick: bool  # is now a multiple of the tick?
    last: LastBatch

    @property
    def any(self) -> int:
        """The bin number that means all bins."""
        return self.num_bins


Decide = Callable[[View], tuple[int, int]]


@dataclass
class Batch:
    """A batch as it was launched, and how it went."""

    number: int
    server: int
    bin: int
    members: tuple[int, ...]
    dispatch: float
    start: float  # dispatch + overhead
    end: float
    peak_tokens: float
    run: Run = field(repr=False)


@dataclass(frozen=True)
class Decision:
    """A question and its answer as given (before masks and clips)."""

    time: float
    server: int
    bin: int
    size: int
    lengths: tuple[int, ...]  # waiting per bin


@dataclass
class Server:
    """A server and what it is doing."""

    number: int
    profile: Profile
    eta: float
    batch: Batch | None = None
    last: LastBatch = LastBatch()


@dataclass
class ReferenceResult:
    """Everything that a run leaves behind."""

    dispatch: NDArray[np.float64]
    first_token: NDArray[np.float64]
    last_token: NDArray[np.float64]
    completion: NDArray[np.float64]
    status: NDArray[np.int64]
    evictions: NDArray[np.int64]
    batches: list[Batch]
    decisions: list[Decision]
    empty_choices: int
    controllers: list[ControllerState]
    trace: list[list[ControllerState]]
    in_system_integral: float
    end: float

    def count(self, *statuses: int) -> int:
        """Requests that ended with one of these."""
        return int(np.isin(self.status, statuses).sum())

    @property
    def unfinished(self) -> int:
        """Requests that had not ended when the run was cut off."""
        return self.count(WAITING, IN_SERVICE)


EVICTION, COMPLETION = range(2)


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
        self.requests = load(config, requests)
        self.num_bins = config.queueing.num_bins
        self.bins = [Bin() for _ in range(self.num_bins)]
        self.servers = [Server(i, server.profile, server.eta) for i, server in enumerate(config.servers)]
        tbt = safe_tbt_s(config) if tbt_s is None else tbt_s
        self.controllers = [ChoiceControllers(config, tbt) for _ in range(self.num_bins + 1)]
        self.now = 0.0
        self.next_arrival = 0
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
            self._timers()
            self._change_the_due()
            self._decide_all()
        if self.in_system:
            assert math.isfinite(horizon), "requests left and nothing to come"
        if self.next_arrival < len(self.requests) or self.in_system:
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
        if self.next_arrival < len(self.requests):
            times.append(self.requests[self.next_arrival].arrival)
        if self._free() and self._waiting():
            times += [self._hold_time(), self._tick_time()]
        return min(times)

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
        """The waiting request of smallest number that is not given up, if any."""
        hopeful = [request for request in self._waiting() if not request.late]
        return min(hopeful, key=lambda request: request.number, default=None)

    def _tick_time(self) -> float:
        """The tick ahead, or inf: after one that woke the servers there is none until something happens."""
        tick = self.config.queueing.tick_s
        if not self.tick_armed or math.isinf(tick):
            return math.inf
        k = max(0, math.floor(self.now / tick) - 1)
        while k * tick <= self.now:
            k += 1
        return k * tick

    def _is_tick(self) -> bool:
        tick = self.config.queueing.tick_s
        return math.isfinite(tick) and round(self.now / tick) * tick == self.now

    # ---- (1) server events

    def _server_events(self) -> None:
        while self.events and self.events[0][0] == self.now:
            _, server, _, kind, number, tokens = heapq.heappop(self.events)
            self.tick_armed = True
            if kind == EVICTION:
                self._evict(self.requests[number], tokens)
            else:
                self._complete(self.servers[server])

    def _evict(self, request: Request, tokens: int) -> None:
        request.generated += tokens
        request.predicted = request.generated + 1
        request.returned = True
        request.evictions += 1
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
        while self.next_arrival < len(self.requests) and self.requests[self.next_arrival].arrival == self.now:
            request = self.requests[self.next_arrival]
            self.next_arrival += 1
            self.tick_armed = True
            if request.prompt + 1 > self.config.max_eta:
                request.status = REJECTED
            else:
                self.in_system += 1
                self.bins[request.bin].add(request)

    # ---- (3) timers

    def _timers(self) -> None:
        """A timer only wakes the servers, and every instant does; what remains is to remember the tick."""
        if self._is_tick() and self._free() and self._waiting():
            self.tick_armed = False

    # ---- (4) decisions

    def _change_the_due(self) -> None:
        waiting = self._waiting()
        if change_the_due(self.config, waiting, self.requests, self.now):
            self._sort_anew(waiting)

    def _sort_anew(self, waiting: Iterable[Request]) -> None:
        for bin_ in self.bins:
            bin_.waiting = []
        for request in waiting:
            self.bins[request.bin].add(request)

    def _decide_all(self) -> None:
        """Ask the free servers in number order; who cannot be served is parked until the next instant."""
        for server in self._free():
            passed_over = True
            while passed_over and server.batch is None:  # where all were passed over it is asked again
                if not self._waiting():
                    return
                bin_, size = self._ask(server)
                if size == 0:
                    return
                members, passed_over = self._triage(server, bin_, size)
                if members:
                    self._launch(server, bin_, members)

    def _ask(self, server: Server) -> tuple[int, int]:
        """What the policy wants for a server, after masks and clips; size 0 is wait."""
        view = self._view(server)
        bin_, size = (int(value) for value in self.decide(view))
        if not 0 <= bin_ <= self.num_bins or size < 0:
            raise ValueError(f"decision ({bin_}, {size}) is not allowed")
        self.decisions.append(Decision(self.now, server.number, bin_, size, view.lengths[:-1]))
        if size == 0:
            return (bin_, 0) if view.can_wait else (self.num_bins, self.config.max_batch)
        if view.lengths[bin_] == 0:
            self.empty_choices += 1
            bin_ = self.num_bins
        return bin_, min(size, self.config.max_batch)

    def _can_wait(self) -> bool:
        """Can any event come?  (Asked while a server is free and a request waits.)"""
        busy = any(server.batch is not None for server in self.servers)
        arrivals = self.next_arrival < len(self.requests)
        return busy or arrivals or math.isfinite(self._hold_time()) or math.isfinite(self._tick_time())

    def _queue(self, bin_: int) -> list[Request]:
        """What a choice admits from, in order; `any` offers the late only where nobody else waits."""
        return in_order_of_any(self._waiting()) if bin_ == self.num_bins else list(self.bins[bin_].waiting)

    def _view(self, server: Server) -> View:
        queues = [self._queue(bin_) for bin_ in range(self.num_bins + 1)]
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

    def _triage(self, server: Server, bin_: int, size: int) -> tuple[list[Request], bool]:
        """The members of the next batch after all who would be late in it are passed over, and whether any was."""
        passed_over = False
        kind = bool(self._queue(bin_)[0].late)
        while True:
            members = self._admit(server, bin_, size, kind)
            hopeless = [] if kind else self._hopeless(server, members)
            for request in hopeless:
                become_late(self.config, request, self.requests)
            if not hopeless:
                return members, passed_over
            passed_over = True
            self._sort_anew(self._waiting())

    def _hopeless(self, server: Server, members: list[Request]) -> list[Request]:
        """Members that the triage passes over, in order of admission."""
        share, overhead = self.config.queueing.triage, self.config.overhead_s
        if share is None or not members:
            return []
        profile, contexts = server.profile, [member.context for member in members]
        guesses = [member.predicted - member.generated for member in members]
        if profile.form == "batch-length":
            length = max(m.prompt + m.predicted for m in members) if profile.length == "total" else max(guesses)
            decode = decode_step_s(profile, len(members), 0) * length
        else:
            steps = range(1, max(1, *guesses))
            decode = sum(decode_step_s(profile, len(members), sum(contexts) + len(members) * j) for j in steps)
        first = self.now + share * (overhead + prefill_s(profile, contexts))
        end = self.now + share * (overhead + prefill_s(profile, contexts) + decode)
        slos = self.config.slos
        return [
            m
            for m in members
            if not m.returned
            and (m.arrival + slos[m.slo_class].e2e_s < end or m.arrival + slos[m.slo_class].ttft_s < first)
        ]

    def _admit(self, server: Server, bin_: int, size: int, kind: bool) -> list[Request]:
        """The members of the next batch; admission stops at the first request that does not fit."""
        queueing = self.config.queueing
        members: list[Request] = []
        reserved = 0.0
        predicted = 0
        for request in self._queue(bin_):
            if len(members) == size or bool(request.late) != kind:
                break
            if reserved + request.reservation(server.eta) > server.eta or request.context + 1 > server.eta:
                break
            overdue = self.now >= request.arrival + queueing.max_wait_s
            if members and predicted + request.predicted > queueing.max_tokens and not overdue:
                break
            members.append(request)
            reserved += request.reservation(server.eta)
            predicted += request.predicted
        return members

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
        for offset, number, tokens in run.evicted:
            self._schedule(start + offset, server, EVICTION, number, tokens)
        self._schedule(end, server, COMPLETION, -1, 0)

    def _schedule(self, time: float, server: Server, kind: int, number: int, tokens: int) -> None:
        self.event_number += 1
        heapq.heappush(self.events, (time, server.number, self.event_number, kind, number, tokens))

    # ---- the end

    def _result(self) -> ReferenceResult:
        """Stamps that lie behind the horizon did not happen."""

        def stamps(name: str) -> NDArray[np.float64]:
            values = np.array([getattr(request, name) for request in self.requests], dtype=np.float64)
            values[values > self.config.horizon_s] = math.nan
            return values

        for batch in self.batches:
            if batch.end > self.config.horizon_s:
                batch.end = math.nan
        return ReferenceResult(
            dispatch=stamps("dispatch"),
            first_token=stamps("first_token"),
            last_token=stamps("last_token"),
            completion=stamps("completion"),
            status=np.array([request.status for request in self.requests]),
            evictions=np.array([request.evictions for request in self.requests]),
            batches=self.batches,
            decisions=self.decisions,
            empty_choices=self.empty_choices,
            controllers=[controller.state(self.now) for controller in self.controllers],
            trace=[controller.trace for controller in self.controllers],
            in_system_integral=self.integral,
            end=self.now,
        )


# --------------------------------------------------------------------------------------------------
# Policies
# --------------------------------------------------------------------------------------------------


def static(batch: int = 8) -> Decide:
    """The oldest requests, in batches of a fixed size, at once."""
    return lambda view: (view.any, batch)


def dynamic() -> Decide:
    """The oldest requests, as many as the controllers of `any` allow."""
    return lambda view: (view.any, view.targets[view.any])


def multibin(select: str = "roundrobin") -> Decide:
    """A bin at a time, as many as its controllers allow."""
    pointer = -1

    def decide(view: View) -> tuple[int, int]:
        nonlocal pointer
        filled = [bin_ for bin_ in range(view.num_bins) if view.lengths[bin_]]
        if select == "roundrobin":
            bin_ = min(filled, key=lambda b: (b - pointer - 1) % view.num_bins)
            pointer = bin_
        elif select == "longest":
            bin_ = max(filled, key=lambda b: (view.lengths[b], -b))
        elif select == "oldest":
            bin_ = min(filled, key=lambda b: view.head_number[b])
        else:
            raise ValueError(f"unknown selection {select!r}")
        return bin_, view.targets[bin_]

    return decide


def multibin_fixed(batch: int) -> Decide:
    """Multi-Bin Batching as published: full batches only, in the order in which they became full."""

    def decide(view: View) -> tuple[int, int]:
        full = [bin_ for bin_ in range(view.num_bins) if view.lengths[bin_] >= batch]
        if full:
            return min(full, key=lambda b: view.queues[b][batch - 1]), batch
        if view.can_wait:
            return view.any, 0
        filled = [bin_ for bin_ in range(view.num_bins) if view.lengths[bin_]]
        return min(filled, key=lambda b: view.head_number[b]), batch

    return decide


def timeout(batch: int, seconds: float) -> Decide:
    """Wait for a full batch, but not longer than this (with ``hold_s`` = ``seconds``)."""

    def decide(view: View) -> tuple[int, int]:
        due = view.waiting >= batch or view.now >= view.oldest_arrival + seconds
        return view.any, batch if due else 0

    return decide


def window() -> Decide:
    """At every tick all that waits."""
    return lambda view: (view.any, view.max_batch if view.tick else 0)


def scripted(choices: Sequence[tuple[int, int]]) -> Decide:
    """These decisions, over and over."""
    asked = -1

    def decide(view: View) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return choices[asked % len(choices)]

    return decide
