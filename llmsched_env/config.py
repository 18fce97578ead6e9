"""What a simulation is made of: frozen, checked descriptions without behaviour.

Every option and every default of the project is defined here once; the command line, the
environment and the experiments only translate to these classes.  Times are seconds, lengths
are tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llmsched_env import engines
from llmsched_env.core.constants import MAX_BINS, MAX_SERVERS, ROUTINGS
from llmsched_env.profiles import Profile

MAX_BATCH_LIMIT = 1024
"""Largest batch cap that can be asked for."""

ENGINES = engines.NAMES
RELEASES = ("batch", "own")
DISCIPLINES = ("fifo", "sjf", "edf", "slack", "priority", "oracle-sjf", "oracle-srpt")
CONTROLLERS = ("paper", "peer")
ADMISSIONS = ("predicted", "prompt")
PREFILLS = ("chunked", "first")


def check_number(name: str, value: float, low: float, high: float, *, remedy: str = "") -> None:
    """Raise ``ValueError`` unless ``low <= value <= high`` (NaN never passes)."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is not allowed: give a number from {low:g} to {high:g}. {remedy}".rstrip())


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known: choose one of {', '.join(allowed)}.")


@dataclass(frozen=True)
class SLO:
    """Latency targets of one class of requests; ``inf`` means no target.

    A request meets its SLO when it completes and every finite target is met (``<=``).
    """

    ttft_s: float = math.inf  # first token - arrival
    tpot_s: float = math.inf  # (last token - first token) / (output - 1)
    e2e_s: float = math.inf  # completion - arrival
    share: float = 1.0  # share of the arrivals that belong to this class
    name: str = "default"

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"SLO {name}={getattr(self, name)!r} is not allowed: give a time above 0, or inf.")
        check_number("SLO share", self.share, 0.0, 1.0)

    @property
    def deadline_s(self) -> float:
        """Time after arrival at which a waiting request has surely missed: min of TTFT and E2E."""
        return min(self.ttft_s, self.e2e_s)


@dataclass(frozen=True)
class Controller:
    """Parameters of the two batch-size controllers of arXiv 2503.05248."""

    tbt_s: float | None = None  # D, target time between tokens; None: the TPOT target, else 50 ms
    eps_s: float = 0.002  # half width of the band around D
    alpha: float = 16.0  # step of the near bound
    delta: float = 4.0  # step of the far bound
    b_min: int = 1
    eps_memory: float = 0.05  # allowed probability of memory overflow
    ema: float = 0.2  # weight of the newest batch in every average
    kind: str = "paper"  # or "peer": the variant of the public multi-bin simulator

    def __post_init__(self) -> None:
        if self.tbt_s is not None:
            check_number("controller tbt_s", self.tbt_s, 1e-6, 1e6)
        check_number("controller eps_s", self.eps_s, 0.0, 1e6)
        check_number("controller alpha", self.alpha, 0.0, 1e6)
        check_number("controller delta", self.delta, 0.0, 1e6)
        check_number("controller b_min", self.b_min, 1, MAX_BATCH_LIMIT)
        check_number("controller eps_memory", self.eps_memory, 1e-9, 0.5)
        check_number("controller ema", self.ema, 1e-6, 1.0)
        check_choice("controller", self.kind, CONTROLLERS)


DEFAULT_TBT_S = 0.050
"""D of the SLA controller where no TPOT target is given."""


@dataclass(frozen=True)
class Server:
    """One GPU, or one tensor-parallel group."""

    profile: Profile
    kv_tokens: float | None = None  # KV capacity eta; None: the profile's; inf: no limit

    @property
    def eta(self) -> float:
        """KV capacity in tokens (``inf`` where there is no limit)."""
        return float(self.profile.kv_tokens if self.kv_tokens is None else self.kv_tokens)

    def __post_init__(self) -> None:
        if not self.eta >= 2:
            raise ValueError(f"kv_tokens={self.eta!r} is not allowed: give at least 2 tokens, or inf.")


@dataclass(frozen=True)
class Continuous:
    """What only the engine `continuous` has (docs/reference/continuous.md)."""

    admission: str = "predicted"  # reserve the predicted length; or "prompt": blocks for the prompt, as vLLM
    prefill: str = "chunked"  # or "first": prompts stall the decoding members, as vLLM v0
    token_budget: float = 2048  # tokens of one iteration; inf: no limit
    routing: str = "pull"  # servers share the queues; else how an arrival is sent to one server
    watermark: float = 0.01  # share of the blocks that `prompt` admission leaves free
    window_s: float = 1.0  # least time between two updates of a server's SLA controller

    def __post_init__(self) -> None:
        check_choice("admission", self.admission, ADMISSIONS)
        check_choice("prefill", self.prefill, PREFILLS)
        check_choice("routing", self.routing, ROUTINGS)
        if not self.token_budget >= 1:
            raise ValueError(f"token_budget={self.token_budget!r} is not allowed: give at least 1 token, or inf.")
        check_number("watermark", self.watermark, 0.0, 0.5)
        check_number("window_s", self.window_s, 0.0, 1e6)


@dataclass(frozen=True)
class Queueing:
    """How requests wait: bins, the order inside a bin, timers."""

    edges: tuple[int, ...] = ()  # inner edges of the bins, ascending; K = len(edges) + 1
    discipline: str = "fifo"
    late_bin: float | None = None  # one more bin, for who could not be in time in so many times its time alone
    triage: float | None = None  # ... and for who would not be in so many times the time of the batch being formed
    hold_s: float = math.inf  # wake when the oldest waiting request has waited this long
    tick_s: float = math.inf  # wake at every multiple of this time
    max_tokens: float = math.inf  # most predicted output tokens in one batch
    max_wait_s: float = math.inf  # a request that waited this long ignores max_tokens

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(self.edges):
            raise ValueError(f"bin edges {self.edges} are not ascending: give them in increasing order.")
        check_number("bins (the late one included)", self.num_bins, 1, MAX_BINS)
        check_choice("discipline", self.discipline, DISCIPLINES)
        self._check_lateness()
        for name in ("hold_s", "tick_s", "max_tokens", "max_wait_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r} is not allowed: give a number above 0, or inf.")

    @property
    def num_bins(self) -> int:
        """K, with the late bin."""
        return len(self.edges) + 1 + (self.late_bin is not None)

    def _check_lateness(self) -> None:
        for name in ("late_bin", "triage"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0.0, 1e6)
        if self.late_bin is not None and self.discipline == "oracle-srpt":
            raise ValueError("late_bin has no place in discipline='oracle-srpt', which evicts by length: drop one.")
        if self.triage is not None and self.late_bin is None:
            raise ValueError(f"triage={self.triage} needs a bin for who is passed over: give late_bin too.")


@dataclass(frozen=True)
class SimConfig:
    """Everything the compiled simulator needs besides the requests."""

    servers: tuple[Server, ...]
    queueing: Queueing = Queueing()
    max_batch: int = 128
    slos: tuple[SLO, ...] = (SLO(e2e_s=30.0),)
    controller: Controller = field(default_factory=Controller)
    release: str = "batch"
    overhead_s: float = 0.0  # scheduler time before the prefill of every batch, or in every iteration
    horizon_s: float = math.inf  # the run is cut off at this time
    engine: str = "batch"  # run to completion; or "continuous": iteration by iteration
    continuous: Continuous = Continuous()

    def __post_init__(self) -> None:
        check_number("servers", len(self.servers), 1, MAX_SERVERS, remedy="At least one server is needed.")
        check_number("max_batch", self.max_batch, 1, MAX_BATCH_LIMIT)
        check_number("controller b_min", self.controller.b_min, 1, self.max_batch, remedy="It cannot exceed max_batch.")
        check_choice("release", self.release, RELEASES)
        engines.get(self.engine).check(self)
        check_number("overhead_s", self.overhead_s, 0.0, 1e6)
        if not self.horizon_s > 0:
            raise ValueError(f"horizon_s={self.horizon_s!r} is not allowed: give a time above 0, or inf.")
        if not self.slos:
            raise ValueError("slos is empty: give at least one SLO (all targets may be inf).")
        total = sum(slo.share for slo in self.slos)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the shares of the SLO classes add up to {total:g}: make them 1.")

    def usable_eta(self, server: Server) -> float:
        """KV capacity of ``server`` that its engine can use, tokens."""
        return engines.get(self.engine).usable_tokens(server.eta)

    @property
    def groups(self) -> int:
        """Sets of bins: one, or one per server where arrivals are sent to a server."""
        return engines.get(self.engine).groups(self)

    @property
    def max_eta(self) -> float:
        """KV capacity of the largest server; larger requests are rejected."""
        return max(self.usable_eta(server) for server in self.servers)

    @property
    def tbt_s(self) -> float:
        """D asked for: the controller's, else the first finite TPOT target, else 50 ms."""
        if self.controller.tbt_s is not None:
            return self.controller.tbt_s
        return next((slo.tpot_s for slo in self.slos if math.isfinite(slo.tpot_s)), DEFAULT_TBT_S)
