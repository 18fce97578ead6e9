"""A scenario: options turned into a configuration and a workload, able to describe itself."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmsched.eval.cli.options import CONTINUOUS_OPTIONS, slo_of
from llmsched_env.config import SLO, Continuous, Controller, Queueing, Server, SimConfig
from llmsched_env.envs.options import CONTINUOUS_DEFAULTS, DEFAULT_SERVERS, SLO_KEYS, EnvOptions
from llmsched_env.requests import Requests
from llmsched_env.servers import parse_servers
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.traces import Trace
from llmsched_env.workload.workload import Workload

RATES = ("rate", "rate_scale", "load")
SIZES = ("requests", "duration")

_SAME = EnvOptions()

DEFAULTS: dict[str, Any] = {
    "workload": _SAME.workload,
    "rate": _SAME.rate,
    "requests": 20_000,
    "servers": DEFAULT_SERVERS,
    "profile": _SAME.profile,
    "bins": _SAME.bins,
    "engine": "batch",
    "max_batch": _SAME.max_batch,
    "release": "batch",
    "goodput": [(key, ms / 1000.0) for key, ms in _SAME.slo.items()],
    "predictor": _SAME.predictor,
    "controller": {},
}
"""The default scenario, that of the environment with longer runs; times in seconds."""

MEMORY: dict[str, Any] = {
    "rate": 1.7,
    "profile": "a100-80gb_bloom-176b_tp8",
    "kv_tokens": 51_717.0,
    "goodput": [("e2el", 60.0), ("tpot", 0.1)],
}
"""What the scenario `memory` changes: a model whose weights leave little KV memory.

The memory target settles at about 30 requests.  Such a batch decodes in about 80 ms a step, so with D = 100 ms (the
TPOT target) the SLA target stays above it: memory binds.  At 1.7 requests/s most batches of the single-queue policies
reach the target, the KV memory fills and evicts, and 60 s is within reach of the better policies only.
"""

CONTINUOUS: dict[str, Any] = {
    **{key: CONTINUOUS_DEFAULTS[key] for key in ("rate", "max_batch")},
    "goodput": [(key, ms / 1000.0) for key, ms in CONTINUOUS_DEFAULTS["slo"].items()],
}
"""What the engine `continuous` changes in the default scenario."""

NAMED = {"default": DEFAULTS, "memory": DEFAULTS | MEMORY}


@dataclass(frozen=True)
class Scenario:
    """What is simulated, the policy apart.  ``config`` holds servers, bins, SLOs; ``source`` the workload as
    written; ``bins_from`` says where the edges come from; ``load`` is set when the rate was chosen by load;
    ``tune_tbt``: the controllers' D is to be chosen on validation seeds; ``cut``: shares of the requests, by number,
    at the start and at the end that are simulated and not scored."""

    name: str
    config: SimConfig
    workload: Workload
    source: str
    profile: str
    bins_from: str
    load: float | None = None
    tune_tbt: bool = False
    cut: tuple[float, float] = (0.0, 0.0)

    def draw(self, seed: int, split: str = "test") -> Requests:
        """The arrivals of one seed: the same for every policy."""
        return self.workload.draw(seed, split)

    def scored(self, count: int) -> slice:
        """Which of the ``count`` requests of a run are scored: neither the warm-up of a trace nor what is cut."""
        first, last = (round(share * count) for share in self.cut)
        return slice(max(self.workload.warmup, first), count - last)

    def at_rate(self, rate: float) -> Scenario:
        """The same scenario at another mean rate (requests/s)."""
        return replace(self, workload=replace(self.workload, rate=rate, rate_scale=1.0))

    @property
    def gpus(self) -> int:
        """GPUs in use: servers times their tensor-parallel width."""
        return sum(server.profile.tensor_parallel for server in self.config.servers)

    @property
    def hardware(self) -> str:
        """Servers by kind, e.g. ``4 servers x TP4 h100-80gb_llama2-70b_tp4 = 16 GPUs``."""
        kinds: dict[Server, int] = {}
        for server in self.config.servers:
            kinds[server] = kinds.get(server, 0) + 1
        parts = [
            f"{count} server{'s' * (count > 1)} x TP{kind.profile.tensor_parallel} {kind.profile.name}, "
            f"{_tokens(kind.eta)} KV tokens each"
            for kind, count in kinds.items()
        ]
        return f"{' + '.join(parts)} = {self.gpus} GPU{'s' * (self.gpus > 1)}{self._engine}"

    @property
    def _engine(self) -> str:
        if self.config.engine == "batch":
            return ""
        mine, usual = self.config.continuous, Continuous()
        words = {
            "prefill": f"prefill {mine.prefill}",
            "token_budget": f"{_tokens(mine.token_budget)} tokens an iteration",
            "admission": f"admission by {mine.admission}",
            "routing": mine.routing,
        }
        changed = [word for name, word in words.items() if getattr(mine, name) != getattr(usual, name)]
        return ", ".join(["", "engine continuous", *changed])

    @property
    def size(self) -> str:
        """How much is simulated per seed, in words."""
        parts = []
        if self.workload.requests is not None:
            parts.append(f"{self.workload.requests:,} requests")
        if self.workload.duration_s is not None:
            parts.append(f"{self.workload.duration_s:g} s")
        if not parts and self.workload.trace is not None:
            parts.append(f"the whole trace ({len(self.workload.trace):,} requests)")
        return " or ".join(parts)

    @property
    def arrivals(self) -> str:
        """The workload in words: name, rate, size."""
        load = f" ({self.load:g} x the capacity of static:batch=auto)" if self.load is not None else ""
        shape = f", gamma gaps of shape {self.workload.burstiness:g}" if self.workload.burstiness is not None else ""
        return f"{self.workload.name} at {self.workload.mean_rate:.4g} requests/s{load}{shape}"

    @property
    def goal(self) -> str:
        """The SLO in words."""
        classes = [(slo, targets_ms(slo)) for slo in self.config.slos]
        texts = [", ".join(f"{k} <= {_time(ms)}" for k, ms in targets.items()) or "none" for _, targets in classes]
        if len(classes) == 1:
            return texts[0]
        pairs = zip(classes, texts, strict=True)
        return "; ".join(f"{slo.name} ({100 * slo.share:g} %): {text}" for (slo, _), text in pairs)

    @property
    def title(self) -> str:
        """One line for figures."""
        servers = len(self.config.servers)
        width = "+".join(sorted({f"TP{s.profile.tensor_parallel}" for s in self.config.servers}))
        return (
            f"{self.name}: {self.arrivals}, {self.size} per seed; {servers} x {width} {self.profile}{self._engine}; "
            f"SLO {self.goal}; predictions {self.workload.predictor}"
        )

    @property
    def bin_names(self) -> list[str]:
        """The bins as intervals of predicted output tokens."""
        bounds = ["0", *(str(edge) for edge in self.config.queueing.edges), "inf"]
        return [f"[{low}, {high})" for low, high in zip(bounds, bounds[1:], strict=False)]

    def describe(self) -> dict[str, Any]:
        """Everything that was simulated, ready for JSON; times in ms, rates per second."""
        config, work = self.config, self.workload
        controller = config.controller
        return {
            "name": self.name,
            "workload": self.source,
            "rate": work.mean_rate,
            "load": self.load,
            "requests": work.requests,
            "duration_s": work.duration_s,
            "warmup_requests": work.warmup,
            **({"cut_shares": list(self.cut)} if any(self.cut) else {}),
            "burstiness": _finite(work.burstiness),
            "predictor": work.predictor,
            "servers": len(config.servers),
            "gpus": self.gpus,
            "profile": self.profile,
            "kv_tokens": [_finite(server.eta) for server in config.servers],
            "bin_edges": list(config.queueing.edges),
            "bin_edges_from": self.bins_from,
            "engine": config.engine,
            **({} if config.engine == "batch" else _continuous(config)),
            "max_batch": config.max_batch,
            "release": config.release,
            "slo_classes": [{"name": s.name, "share": s.share, "targets_ms": targets_ms(s)} for s in config.slos],
            "controller": {
                "kind": controller.kind,
                "tbt_ms": "auto" if self.tune_tbt else 1000 * config.tbt_s,
                "eps_ms": 1000 * controller.eps_s,
                "alpha": controller.alpha,
                "delta": controller.delta,
                "b_min": controller.b_min,
                "eps_memory": controller.eps_memory,
                "ema": controller.ema,
            },
        }


def _continuous(config: SimConfig) -> dict[str, Any]:
    """What only the engine `continuous` has, ready for JSON; a policy may set prefill and admission itself."""
    mine = config.continuous
    return {
        "prefill": mine.prefill,
        "token_budget": _finite(mine.token_budget),
        "admission": mine.admission,
        "routing": mine.routing,
    }


def targets_ms(slo: SLO) -> dict[str, float]:
    """The finite targets of a class by --goodput key, in ms."""
    found = {key: 1000 * getattr(slo, field) for key, field in SLO_KEYS.items()}
    return {key: ms for key, ms in found.items() if math.isfinite(ms)}


def scenario_from(options: argparse.Namespace) -> Scenario:
    """The scenario of parsed options (llmsched.eval.cli.options); what is not given comes from the named scenario.

    Raises ``ValueError`` with a line for the user.
    """
    values = _merged(options)
    classes = values.get("slo_classes") or [slo_of(values["goodput"])]
    names = [slo.name for slo in classes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the SLO class {name} is given {names.count(name)} times: give each another name.")
    workload = _workload(options, values, tuple(slo.share for slo in classes))
    if values["predictor"] == "none" and options.bins is None:
        values["bins"] = 1  # every prediction is the same
    edges = values["bins"] if isinstance(values["bins"], tuple) else bin_edges(workload, values["bins"])
    controller = dict(values["controller"])
    tune_tbt = controller.get("tbt_s") == "auto"
    if tune_tbt:
        del controller["tbt_s"]
    given = {key: values[key] for key in CONTINUOUS_OPTIONS if values.get(key) is not None}
    if given and values["engine"] == "batch":
        raise ValueError(
            f"--{next(iter(given)).replace('_', '-')} belongs to the engine continuous: add --engine continuous."
        )
    config = SimConfig(
        engine=values["engine"],
        continuous=Continuous(**given),
        servers=parse_servers(values["profile"], values.get("servers"), values.get("kv_tokens")),
        queueing=Queueing(
            edges=edges,
            discipline=values.get("discipline") or "fifo",
            late_bin=values.get("late_bin"),
            triage=values.get("triage"),
        ),
        max_batch=values["max_batch"],
        slos=tuple(classes),
        controller=Controller(**controller),
        release=values["release"],
    )
    return Scenario(
        name=options.scenario,
        config=config,
        workload=workload,
        source=str(values["workload"]),
        profile=values["profile"],
        bins_from="given" if isinstance(values["bins"], tuple) else "quantiles of the calibration split",
        load=values.get("load"),
        tune_tbt=tune_tbt,
    )


def _merged(options: argparse.Namespace) -> dict[str, Any]:
    """The options given, over the values of the named scenario that they do not replace."""
    given = {key: value for key, value in vars(options).items() if value is not None}
    values = dict(NAMED[options.scenario])
    if given.get("engine") == "continuous":
        values |= CONTINUOUS if options.scenario == "default" else {"max_batch": CONTINUOUS["max_batch"]}
    for group in (RATES, SIZES):
        if any(key in given for key in group):
            for key in group:
                values.pop(key, None)
    if "profile" in given:
        values.pop("kv_tokens", None)
        if set(",:") & set(given["profile"]) and not Path(given["profile"]).is_file():
            values.pop("servers", None)  # the profile counts them
    return values | given


def _workload(options: argparse.Namespace, values: Mapping[str, Any], shares: tuple[float, ...]) -> Workload:
    """The workload; a trace file brings its own rate and size unless the user gave others."""
    source: str | Trace = values["workload"]
    asked = {key: values[key] for key in (*RATES, *SIZES) if key in values}
    probe = Workload(source, requests=2, predictor=values["predictor"], slo_shares=shares)
    if probe.trace is not None:
        source = probe.trace  # read once
        for key in ("rate", "requests"):
            if getattr(options, key) is None:
                asked.pop(key, None)
    return Workload(
        source,
        requests=asked.get("requests"),
        duration_s=asked.get("duration"),
        rate=asked.get("rate"),
        rate_scale=asked.get("rate_scale", 1.0),
        burstiness=values.get("burstiness"),
        predictor=values["predictor"],
        slo_shares=shares,
    )


def _time(ms: float) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _tokens(eta: float) -> str:
    return f"{eta:,.0f}" if math.isfinite(eta) else "unlimited"


def _finite(value: float | None) -> float | str | None:
    return "inf" if value is not None and math.isinf(value) else value
