"""What a simulation is made of: frozen, checked descriptions without behaviour.

The options that users set are declared in llmsched_env.options (unit, default, bounds, help); the fields here take
defaults and checks from there.  What is checked here is how options go together.  Times are seconds, lengths tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from llmsched_env import engines
from llmsched_env.core.constants import MAX_BINS, MAX_SERVERS
from llmsched_env.options.table import check_fields, default
from llmsched_env.profiles import Profile


def check_number(name: str, value: float, low: float, high: float, *, remedy: str = "") -> None:
    """Raise ``ValueError`` unless ``low <= value <= high`` (NaN never passes)."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is not allowed: give a number from {low:g} to {high:g}. {remedy}".rstrip())


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
        check_fields("slos", self)
        check_number("SLO share", self.share, 0.0, 1.0)

    @property
    def deadline_s(self) -> float:
        """Time after arrival at which a waiting request has surely missed: min of TTFT and E2E."""
        return min(self.ttft_s, self.e2e_s)


@dataclass(frozen=True)
class Controller:
    """Parameters of the two batch-size controllers of arXiv 2503.05248."""

    tbt_s: float | None = default("controller.tbt_s")
    eps_s: float = default("controller.eps_s")
    alpha: float = default("controller.alpha")
    delta: float = default("controller.delta")
    b_min: int = default("controller.b_min")
    eps_memory: float = default("controller.eps_memory")
    ema: float = default("controller.ema")
    kind: str = default("controller.kind")

    def __post_init__(self) -> None:
        check_fields("controller", self)


LEAST_S = 1e-9
"""A target on the clock of the servers that no request meets, where the client alone waits longer than its target."""

DEFAULT_TBT_S = 0.050
"""D of the SLA controller where no TPOT target is given."""


@dataclass(frozen=True)
class Server:
    """One GPU, or one tensor-parallel group."""

    profile: Profile
    kv_tokens: float | None = default("kv_tokens")  # None: the profile's

    @property
    def eta(self) -> float:
        """KV capacity in tokens (``inf`` where there is no limit)."""
        return float(self.profile.kv_tokens if self.kv_tokens is None else self.kv_tokens)

    def __post_init__(self) -> None:
        check_fields("servers", self)
        if not self.eta >= 2:
            raise ValueError(f"kv_tokens={self.eta!r} is not allowed: give at least 2 tokens, or inf.")


@dataclass(frozen=True)
class Continuous:
    """What only the engine `continuous` has (docs/reference/continuous.md)."""

    admission: str = default("admission")
    prefill: str = default("prefill")
    scheduling: str = default("scheduling")
    prefix_cache: str = default("prefix_cache")
    token_budget: float = default("token_budget")
    routing: str = default("routing")
    load_age_s: float = default("load_age_s")
    watermark: float = default("watermark")
    window_s: float = default("window_s")
    max_chunk: float = default("max_chunk")
    victim: str = default("victim")
    returned: str = default("returned")

    def __post_init__(self) -> None:
        check_fields("continuous", self)


SHORTEST_TIMER_S = 1e-6
"""Shortest timer: a shorter one asks a scheduler millions of times a second."""


@dataclass(frozen=True)
class Queueing:
    """How requests wait, and which do not: bins, the order inside a bin, refusals, timers."""

    edges: tuple[int, ...] = ()  # inner edges of the bins, ascending; K = len(edges) + 1
    discipline: str = default("discipline")
    overdue_factor: float | None = default("overdue_factor")
    overdue_batch_factor: float | None = default("overdue_batch_factor")
    overdue: str = default("overdue")
    patience_s: float = default("patience_s")
    queue_cap: int | None = default("queue_cap")
    accept_rate: float = default("accept_rate")
    accept_burst: float = default("accept_burst")
    refusals: str = default("refusals")
    hold_s: float = default("hold_s")
    tick_s: float = default("tick_s")
    max_tokens: float = default("max_tokens")
    max_wait_s: float = default("max_wait_s")
    class_priority: str = default("class_priority")
    aging_s: float = default("aging_s")

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(self.edges):
            raise ValueError(f"bin edges {self.edges} are not ascending: give them in increasing order.")
        check_number("bins", self.num_bins, 1, MAX_BINS)
        check_fields("queueing", self)
        for name in ("tick_s", "hold_s"):
            if getattr(self, name) < SHORTEST_TIMER_S:
                raise ValueError(
                    f"{name}={getattr(self, name):g} is not allowed: give at least {SHORTEST_TIMER_S:g} s."
                )
        if self.discipline != "sjf" and math.isfinite(self.aging_s):
            raise ValueError(f"aging_s={self.aging_s!r} belongs to discipline='sjf': give that too, or drop one.")
        if self.overdue_factor is not None and self.discipline == "oracle-srpt":
            raise ValueError("overdue_factor does not go with discipline='oracle-srpt', which preempts: drop one.")
        if self.overdue_batch_factor is not None and self.overdue_factor is None:
            raise ValueError(
                f"overdue_batch_factor={self.overdue_batch_factor} needs the overdue queue: give overdue_factor too."
            )
        if self.class_priority == "strict" and self.discipline == "oracle-srpt":
            raise ValueError("class_priority='strict' does not go with discipline='oracle-srpt': drop one.")
        if self.overdue == "refuse" and self.overdue_factor is None:
            raise ValueError("overdue='refuse' says what becomes of overdue requests: give overdue_factor too.")
        if self.accept_burst != 1.0 and math.isinf(self.accept_rate):
            raise ValueError(f"accept_burst={self.accept_burst!r} belongs to a token bucket: give accept_rate too.")

    @property
    def num_bins(self) -> int:
        """K, the bins of predicted output length."""
        return len(self.edges) + 1

    @property
    def keyed(self) -> bool:
        """Whether bins are ordered by a key other than the arrival."""
        return self.discipline != "fifo" or self.class_priority == "strict"

    @property
    def has_overdue(self) -> bool:
        """Whether there is an overdue queue beside the bins."""
        return self.overdue_factor is not None and self.overdue == "wait"

    @property
    def refuses_overdue(self) -> bool:
        """Whether requests that become overdue are refused."""
        return self.overdue_factor is not None and self.overdue == "refuse"

    @property
    def loses_requests(self) -> bool:
        """Whether a request that fits may leave without service: refused, or abandoned by its client."""
        gated = self.queue_cap is not None or math.isfinite(self.accept_rate)
        return gated or math.isfinite(self.patience_s) or self.refuses_overdue or self.refusals == "on"

    @property
    def num_queues(self) -> int:
        """The bins, and the overdue queue where there is one."""
        return self.num_bins + self.has_overdue


@dataclass(frozen=True)
class SimConfig:
    """Everything the compiled simulator needs besides the requests."""

    servers: tuple[Server, ...]
    queueing: Queueing = Queueing()
    max_batch: int = default("max_batch")
    slos: tuple[SLO, ...] = (SLO(e2e_s=30.0),)
    controller: Controller = field(default_factory=Controller)
    release: str = default("release")
    overhead_s: float = default("overhead_s")
    horizon_s: float = default("horizon_s")
    engine: str = default("engine")
    continuous: Continuous = Continuous()

    def __post_init__(self) -> None:
        check_number("servers", len(self.servers), 1, MAX_SERVERS, remedy="At least one server is needed.")
        check_fields("", self)
        check_number("controller b_min", self.controller.b_min, 1, self.max_batch, remedy="It cannot exceed max_batch.")
        engines.get(self.engine).check(self)
        if not self.slos:
            raise ValueError("slos is empty: give at least one SLO (all targets may be inf).")
        total = sum(slo.share for slo in self.slos)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the shares of the SLO classes add up to {total:g}: make them 1.")

    def usable_eta(self, server: Server) -> float:
        """KV capacity of ``server`` that its engine can use, tokens."""
        return engines.get(self.engine).usable_tokens(server.eta)

    @property
    def client_offset_s(self) -> float:
        """Time by which clients see tokens later than the servers give them, s: of unlike servers the longest."""
        return max(server.profile.client_offset_s for server in self.servers)

    @property
    def server_slos(self) -> tuple[SLO, ...]:
        """The SLO classes on the clock of the servers: TTFT and E2E targets less what the client waits besides."""
        offset = self.client_offset_s
        if offset == 0.0:
            return self.slos
        return tuple(
            replace(slo, ttft_s=max(slo.ttft_s - offset, LEAST_S), e2e_s=max(slo.e2e_s - offset, LEAST_S))
            for slo in self.slos
        )

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
