"""The arguments of the environments: the options of llmsched_env.options in the form of keyword arguments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from llmsched_env.config import SLO, Continuous, Controller, Queueing, SimConfig, check_number
from llmsched_env.core.constants import MAX_BINS
from llmsched_env.options.declaration import Option, check
from llmsched_env.options.kinds import Number
from llmsched_env.options.presets import OWN, preset
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.options.table import OPTIONS, default, settings
from llmsched_env.options.words import REWARD_TERMS
from llmsched_env.requests import Requests
from llmsched_env.servers import gpu_of, parse_servers
from llmsched_env.workload.bins import bin_edges, parse_edges
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import Workload

DEFAULT_SERVERS: int = OPTIONS["servers"].flag_default

SLO_PARTS: Mapping[str, Option] = {part.name: part for part in OPTIONS["slo"].parts}
"""The latency targets by their names at the border."""

CONTINUOUS_DEFAULTS: Mapping[str, Any] = {"engine": "continuous"} | {
    name: option.default_in("continuous")
    for name, option in OPTIONS.items()
    if option.default_in("continuous") != option.default
}
"""What differs in the default scenario of the engine `continuous`: the same servers carry more, because an iteration
reads the weights once for all members; the targets are those of serving practice."""

DEFAULT_REWARD = {"miss": 1.0, "holding": 0.01, "tardiness": 0.0}


@dataclass(frozen=True)
class EnvOptions:
    """Keyword arguments of ``gym.make("LLMSched-v0", ...)``; each is declared in llmsched_env.options."""

    workload: Any = default("workload")
    rate: Any = default("rate")
    requests: int | None = default("requests")
    duration_s: float | None = default("duration_s")
    predictor: str = default("predictor")
    shared_prefix: str = default("shared_prefix")
    burstiness: float | None = default("burstiness")
    concurrency: int | None = default("concurrency")
    think: str = default("think")
    profile: str = default("profile")
    servers: int | None = default("servers")
    kv_tokens: float | None = default("kv_tokens")
    bins: Any = default("bins")
    max_bins: int | None = default("max_bins")
    max_batch: int = default("max_batch")
    slo: Mapping[str, float] = field(default_factory=lambda: dict(default("slo")))
    discipline: str = default("discipline")
    aging_s: float = default("aging_s")
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
    controller: Mapping[str, Any] = field(default_factory=lambda: dict(default("controller")))
    reward: Mapping[str, float] = field(default_factory=lambda: dict(default("reward")))
    action: str = default("action")
    engine: str = default("engine")
    rules: str = default("rules")
    prefill: str = default("prefill")
    scheduling: str = default("scheduling")
    prefix_cache: str = default("prefix_cache")
    token_budget: float = default("token_budget")
    max_chunk: float = default("max_chunk")
    admission: str = default("admission")
    routing: str = default("routing")
    load_age_s: float = default("load_age_s")
    watermark: float = default("watermark")
    victim: str = default("victim")
    returned: str = default("returned")
    window_s: float = default("window_s")
    release: str = default("release")
    overhead_s: float = default("overhead_s")
    max_tokens: float = default("max_tokens")
    max_wait_s: float = default("max_wait_s")

    def __post_init__(self) -> None:
        for name in _fields(EnvOptions):
            OPTIONS[name].check_argument(getattr(self, name))
        self._check_mappings()
        if self.requests is None and self.duration_s is None:
            raise ValueError("requests=None and duration_s=None: an episode has no end, give one of them.")
        self.rates  # noqa: B018  (refuses a bad range here)
        if not isinstance(self.bins, int) or isinstance(self.bins, bool):
            self._given_edges()
        check_number("bins", self._num_bins, 1, MAX_BINS)
        check_number("max_bins", self.num_max_bins, self._num_bins, MAX_BINS, remedy="It cannot be below bins.")

    def _check_mappings(self) -> None:
        weights = dict.fromkeys(REWARD_TERMS, Number(0, 1e9))
        parts = {part.name: part for part in OPTIONS["controller"].parts}
        for name, known in (("slo", SLO_PARTS), ("reward", weights), ("controller", parts)):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise ValueError(f"{name}={given!r} is not allowed: give a mapping with keys of {', '.join(known)}.")
            for key, value in given.items():
                if key not in known:
                    raise ValueError(
                        f"{name} has no {key!r}.{did_you_mean(str(key), known)} Its keys are {', '.join(known)}."
                    )
                kind = known[key]
                if isinstance(kind, Option):
                    kind.check_argument(value, kind.full_name)
                else:
                    check(f"reward weight {key}", value, kind)

    def _given_edges(self) -> tuple[int, ...]:
        """The inner edges of the bins whose lower bounds were given."""
        if not isinstance(self.bins, Sequence) or isinstance(self.bins, str):
            raise ValueError(f"bins={self.bins!r} is not allowed: give {OPTIONS['bins'].kind.allowed()}.")
        return parse_edges(self.bins)

    @property
    def rates(self) -> tuple[float, float] | None:
        """Lowest and highest mean rate of an episode, requests/s; None: the workload's own."""
        if self.rate is None or self.concurrency is not None or isinstance(self._sources()[0], Requests):
            return None
        pair = tuple(self.rate) if isinstance(self.rate, (list, tuple)) else (self.rate, self.rate)
        kind = OPTIONS["rate"].kind
        if len(pair) != 2 or None in pair or not all(map(kind.accepts, pair)) or pair[0] > pair[1]:
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
            shared_prefix=self.shared_prefix,
            concurrency=self.concurrency,
            think=self.think,
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
        return len(self.edges) + 1

    def simulation(self) -> SimConfig:
        """The configuration of the simulator."""
        try:
            targets = {
                part.field: part.from_argument(self.slo[key]) for key, part in SLO_PARTS.items() if key in self.slo
            }
            counted = any(mark in self.profile for mark in ",:") and not Path(self.profile).is_file()
            servers = DEFAULT_SERVERS if self.servers is None and not counted else self.servers
            return SimConfig(
                servers=parse_servers(self.profile, servers, self.kv_tokens),
                queueing=Queueing(self.edges, **settings("queueing", vars(self))),
                slos=(SLO(**targets),),
                controller=Controller(**self.controller),
                horizon_s=math.inf if self.duration_s is None else self.duration_s,
                continuous=Continuous(**settings("continuous", vars(self))),
                **settings("", vars(self)),
            )
        except TypeError as error:
            raise ValueError(f"an option has the wrong type: {error}.") from None

    @property
    def weights(self) -> dict[str, float]:
        """Reward weights by term."""
        return DEFAULT_REWARD | dict(self.reward)


def check_whole(name: str, value: Any, low: int = 1) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number of at least ``low``."""
    check(name, value, Number(low, whole=True))


class UnknownOptionError(TypeError, ValueError):
    """An option that does not exist: as of a function without such an argument (TorchRL asks for that), and a value
    that is not allowed, as all other refusals here."""


OLD_NAMES: Mapping[str, str] = {old: name for name, option in OPTIONS.items() for old in option.old_names}
"""Earlier names of arguments, which still work and warn."""


def parse_options(options: Mapping[str, Any]) -> EnvOptions:
    """``EnvOptions`` of keyword arguments; an unknown name is refused with the nearest one, an old one warns."""
    known = _fields(EnvOptions)
    found: dict[str, Any] = {}
    for given, value in options.items():
        name = OLD_NAMES.get(given, given)
        if name not in known:
            have = f"Options: {', '.join(known)} (unexpected keyword argument {given!r})."
            raise UnknownOptionError(f"LLMSched has no option {given!r}.{did_you_mean(given, known)} {have}")
        if name != given:
            warnings.warn(f"the argument {given} is now called {name}.", stacklevel=3)
        if name in found:
            raise ValueError(f"{name} is given twice, as {given} too: give it once.")
        found[name] = _present_terms(value) if name == "reward" else value
    return EnvOptions(**{**_of_rules(found), **found})


def _of_rules(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the named rules of an engine set; what is given wins over them."""
    rules = given.get("rules", OWN)
    OPTIONS["rules"].check_argument(rules)
    if rules == OWN:
        return {}
    if given.get("engine", default("engine")) != "continuous":
        raise ValueError(f"rules={rules!r} belongs to the engine 'continuous': give engine='continuous', or drop it.")
    servers = parse_servers(given.get("profile", default("profile")))
    budget = given.get("token_budget")
    if budget is not None:
        OPTIONS["token_budget"].check_argument(budget)
    return preset(rules, [gpu_of(server.profile) for server in servers], budget)


OLD_TERMS = {"late": "tardiness"}
"""Earlier names of reward terms, which still work and warn."""


def _present_terms(reward: Any) -> Any:
    """``reward`` with the present names of its terms."""
    if not isinstance(reward, Mapping) or not OLD_TERMS.keys() & reward.keys():
        return reward
    for old in OLD_TERMS.keys() & reward.keys():
        if OLD_TERMS[old] in reward:
            raise ValueError(f"the reward term {OLD_TERMS[old]} is given twice, as {old} too: give it once.")
        warnings.warn(f"the reward term {old} is now called {OLD_TERMS[old]}.", stacklevel=4)
    return {OLD_TERMS.get(name, name): value for name, value in reward.items()}


def _fields(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))
