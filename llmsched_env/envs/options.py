"""The options of the environments: one definition, one set of defaults, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from llmsched_env.config import MAX_BINS, SLO, Continuous, Controller, Queueing, SimConfig, check_choice, check_number
from llmsched_env.requests import Requests
from llmsched_env.servers import parse_servers
from llmsched_env.suggest import did_you_mean
from llmsched_env.workload.bins import bin_edges, parse_edges
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import Workload

DEFAULT_SERVERS = 4

SLO_KEYS = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "e2e_s"}
"""Names of the latency targets at the border (ms there), as in vLLM's --goodput."""

CONTINUOUS_DEFAULTS: Mapping[str, Any] = {
    "engine": "continuous",
    "rate": 10.0,
    "max_batch": 256,
    "slo": {"ttft": 2_000.0, "tpot": 100.0},
}
"""What differs in the default scenario of the engine `continuous`: the same servers carry more, because an iteration
reads the weights once for all members; the targets are those of serving practice."""

ACTIONS = ("multidiscrete", "ladder")
REWARD_TERMS = ("miss", "holding", "late")
DEFAULT_REWARD = {"miss": 1.0, "holding": 0.01, "late": 0.0}


@dataclass(frozen=True)
class EnvOptions:
    """Keyword arguments of ``gym.make("LLMSched-v0", ...)``."""

    workload: Any = "azure-conv"  # generator, trace file, Trace, Requests, or a list of them to draw from
    rate: Any = 2.5  # requests/s; a pair: drawn per episode, log-uniformly; None: the workload's own
    requests: int | None = 500  # arrivals in an episode; None: as many as come in duration_s
    duration_s: float | None = None  # the episode is truncated at this time, and nothing arrives later
    predictor: str = "noisy:0.3"  # oracle, noisy:S, prompt-only, none
    burstiness: float | None = None  # gamma shape of the gaps instead of the generator's own arrivals
    profile: str = "h100-80gb_llama2-70b_tp4"  # latency profile, or several: "A:2,B:2"
    servers: int | None = None  # 4, or what the profile counts
    kv_tokens: float | None = None  # KV capacity of every server; None: the profile's
    bins: Any = 4  # number of bins, or their lower bounds in predicted tokens: (0, 64, 256) are three
    max_bins: int | None = None  # the spaces are made for this many bins; None: as many as there are
    max_batch: int = 128  # largest batch
    slo: Mapping[str, float] = field(default_factory=lambda: {"e2el": 30_000.0})  # latency targets: ttft, tpot, e2el
    discipline: str = "fifo"  # order inside a bin: fifo, sjf, edf, slack, priority, oracle-sjf
    late_bin: float | None = None  # one more bin, for who could not be in time in so many times its time alone
    triage: float | None = None  # ... and for who would not be in so many times the time of the batch being formed
    hold_s: float = math.inf  # wake the agent when the oldest request has waited this long
    tick_s: float = math.inf  # wake the agent at every multiple of this time
    controller: Mapping[str, Any] = field(default_factory=dict)  # tbt_s, eps_s, alpha, ... (config.Controller)
    reward: Mapping[str, float] = field(default_factory=dict)  # weights of terms that differ from their defaults
    action: str = "multidiscrete"  # or "ladder": Discrete
    engine: str = "batch"  # run to completion; or "continuous": iteration by iteration
    prefill: str = "chunked"  # continuous: prompts in chunks beside decodes, or "first"
    token_budget: float = 2048  # continuous: tokens of one iteration
    admission: str = "predicted"  # continuous: reserve predicted lengths, or "prompt": blocks for the prompt
    routing: str = "pull"  # continuous: shared queues, or how arrivals are sent to a server

    def __post_init__(self) -> None:
        self._check_types()
        check_choice("action", self.action, ACTIONS)
        for name, known in (("slo", SLO_KEYS), ("reward", REWARD_TERMS), ("controller", _fields(Controller))):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise ValueError(f"{name}={given!r} is not allowed: give a mapping with keys of {', '.join(known)}.")
            for key, value in given.items():
                if key not in known:
                    raise ValueError(
                        f"{name} has no {key!r}.{did_you_mean(str(key), known)} Its keys are {', '.join(known)}."
                    )
                if not (name == "controller" and key == "kind") and not (key == "tbt_s" and value is None):
                    check_real(f"{name} {key}", value)
                if name == "reward":
                    check_number(f"reward weight {key}", value, 0.0, 1e9)
        if self.requests is None and self.duration_s is None:
            raise ValueError("requests=None and duration_s=None: an episode has no end, give one of them.")
        self.rates  # noqa: B018  (refuses a bad range here)
        check_number("bins (the late one included)", self._num_bins, 1, MAX_BINS)
        check_number("max_bins", self.num_max_bins, self._num_bins, MAX_BINS, remedy="It cannot be below bins.")

    def _check_types(self) -> None:
        for name in ("predictor", "profile", "discipline", "action", "engine", "prefill", "admission", "routing"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name}={getattr(self, name)!r} is not allowed: give a text.")
        for name in ("requests", "servers", "max_bins", "max_batch"):
            if name == "max_batch" or getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        for name in ("duration_s", "burstiness", "kv_tokens", "late_bin", "triage", "hold_s", "tick_s", "token_budget"):
            if name in ("hold_s", "tick_s", "token_budget") or getattr(self, name) is not None:
                check_real(name, getattr(self, name))
        if not isinstance(self.bins, int) or isinstance(self.bins, bool):
            self._given_edges()
        for rate in self.rate if isinstance(self.rate, (list, tuple)) else [self.rate]:
            if rate is not None:
                check_real("rate", rate)

    def _given_edges(self) -> tuple[int, ...]:
        """The inner edges of the bins whose lower bounds were given."""
        if not isinstance(self.bins, Sequence) or isinstance(self.bins, str):
            remedy = f"give a number from 1 to {MAX_BINS}, or the bins' lower bounds like (0, 64, 256, 1024)."
            raise ValueError(f"bins={self.bins!r} is not allowed: {remedy}")
        return parse_edges(self.bins)

    @property
    def rates(self) -> tuple[float, float] | None:
        """Lowest and highest mean rate of an episode, requests/s; None: the workload's own."""
        if self.rate is None or isinstance(self._sources()[0], Requests):
            return None
        pair = tuple(self.rate) if isinstance(self.rate, Sequence) else (self.rate, self.rate)
        if len(pair) != 2 or not 0 < pair[0] <= pair[1] < math.inf:
            raise ValueError(f"rate={self.rate!r} is not allowed: give requests/s above 0, or a pair (low, high).")
        return float(pair[0]), float(pair[1])

    def _sources(self) -> list[str | Path | Trace | Requests]:
        given = self.workload if isinstance(self.workload, (list, tuple)) else [self.workload]
        if not given:
            raise ValueError("workload=[] is empty: give at least one.")
        for source in given:
            if not isinstance(source, (str, Path, Trace, Requests)):
                raise ValueError(f"workload={source!r} is not allowed: give a name, a file, a Trace or Requests.")
        return list(given)

    @property
    def workloads(self) -> tuple[Workload | Requests, ...]:
        """What episodes are drawn from, at the rate of the middle of the range."""
        middle = None if self.rates is None else math.sqrt(self.rates[0] * self.rates[1])
        return tuple(
            source if isinstance(source, Requests) else self.workload_of(source, middle) for source in self._sources()
        )

    def workload_of(self, source: str | Path | Trace, rate: float | None, episodes: int = 1) -> Workload:
        """One source at one rate, with the requests of so many episodes."""
        return Workload(
            source,
            requests=None if self.requests is None else episodes * self.requests,
            duration_s=self.duration_s,
            rate=rate,
            burstiness=self.burstiness,
            predictor=self.predictor,
        )

    @property
    def edges(self) -> tuple[int, ...]:
        """Inner edges of the bins: as given, or quantiles of a sample that no episode contains."""
        if not isinstance(self.bins, int):
            return self._given_edges()
        if self.bins == 1:
            return ()
        first = self.workloads[0]
        if isinstance(first, Requests):
            raise ValueError(
                f"bins={self.bins}: own Requests say nothing about others; give the lower bounds, as (0, 64, 256)."
            )
        return bin_edges(first, self.bins)

    @property
    def num_max_bins(self) -> int:
        """Bins that the spaces are made for."""
        return self._num_bins if self.max_bins is None else self.max_bins

    @property
    def _num_bins(self) -> int:
        return len(self.edges) + 1 + (self.late_bin is not None)

    def simulation(self) -> SimConfig:
        """The configuration of the simulator."""
        try:
            targets: dict[str, Any] = {SLO_KEYS[key]: float(ms) / 1000.0 for key, ms in self.slo.items()}
            counted = any(mark in self.profile for mark in ",:") and not Path(self.profile).is_file()
            servers = DEFAULT_SERVERS if self.servers is None and not counted else self.servers
            return SimConfig(
                servers=parse_servers(self.profile, servers, self.kv_tokens),
                queueing=Queueing(self.edges, self.discipline, self.late_bin, self.triage, self.hold_s, self.tick_s),
                max_batch=self.max_batch,
                slos=(SLO(**targets),),
                controller=Controller(**self.controller),
                horizon_s=math.inf if self.duration_s is None else self.duration_s,
                engine=self.engine,
                continuous=Continuous(self.admission, self.prefill, self.token_budget, self.routing),
            )
        except TypeError as error:
            raise ValueError(f"an option has the wrong type: {error}.") from None

    @property
    def weights(self) -> dict[str, float]:
        """Reward weights by term."""
        return DEFAULT_REWARD | dict(self.reward)


def check_whole(name: str, value: Any, low: int = 1) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number of at least ``low``."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name}={value!r} is not allowed: give a whole number of at least {low}.")


def check_real(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is a number."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is not allowed: give a number.")


class UnknownOptionError(TypeError, ValueError):
    """An option that does not exist: as of a function without such an argument (TorchRL asks for that), and a value
    that is not allowed, as all other refusals here."""


def parse_options(options: Mapping[str, Any]) -> EnvOptions:
    """``EnvOptions`` of keyword arguments; an unknown name is refused with the nearest one."""
    known = _fields(EnvOptions)
    for name in options:
        if name not in known:
            have = f"Options: {', '.join(known)} (unexpected keyword argument {name!r})."
            raise UnknownOptionError(f"LLMSched has no option {name!r}.{did_you_mean(name, known)} {have}")
    return EnvOptions(**options)


def _fields(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))
