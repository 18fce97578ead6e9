"""A scenario: what is simulated, the policy apart, and how it is said in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from llmsched.eval.scenarios.describing import IN_TITLE, changes, describe, targets_ms
from llmsched_env.config import Server, SimConfig
from llmsched_env.requests import Requests
from llmsched_env.workload.workload import Workload


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
        return f"{' + '.join(parts)} = {self.gpus} GPU{'s' * (self.gpus > 1)}{self._engine}{self._client}"

    @property
    def _client(self) -> str:
        offset = self.config.client_offset_s
        return f", clients see every token {1000 * offset:.3g} ms later" if offset else ""

    @property
    def _engine(self) -> str:
        return "" if self.config.engine == "batch" else f", engine {self.config.engine}"

    @property
    def size(self) -> str:
        """How much is simulated per seed, in words."""
        parts = []
        if self.workload.sessions is not None:
            parts.append(f"{self.workload.sessions:,} sessions")
        if self.workload.requests is not None:
            parts.append(f"{self.workload.requests:,} requests")
        if self.workload.duration_s is not None:
            parts.append(f"{self.workload.duration_s:g} s")
        if not parts and self.workload.trace is not None:
            parts.append(f"the whole trace ({len(self.workload.trace):,} requests)")
        return " or ".join(parts)

    @property
    def arrivals(self) -> str:
        """The workload in words: name, rate or clients."""
        if self.workload.concurrency is not None:
            return f"{self.workload.name} from {self.workload.concurrency:,} clients in a closed loop"
        load = f" ({self.load:g} x the capacity of static:batch=auto)" if self.load is not None else ""
        shape = f", gamma gaps of shape {self.workload.burstiness:g}" if self.workload.burstiness is not None else ""
        sessions = " in sessions" if self.workload.has_sessions else ""
        return f"{self.workload.name}{sessions} at {self.workload.mean_rate:.4g} requests/s{load}{shape}"

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
        """One line for figures: the system, and every other option that differs from the default."""
        servers = len(self.config.servers)
        width = "+".join(sorted({f"TP{s.profile.tensor_parallel}" for s in self.config.servers}))
        parts = [
            f"{self.name}: {self.arrivals}, {self.size} per seed",
            f"{servers} x {width} {self._profile_name}{self._engine}",
            f"SLO {self.goal}",
            f"predictions {self.workload.predictor}",
            *changes(self, besides=IN_TITLE),
        ]
        return "; ".join(parts)

    @property
    def _profile_name(self) -> str:
        """The profiles as typed, files without their folders."""
        parts = [part.rpartition(":") if ":" in part else (part, "", "") for part in self.profile.split(",")]
        short = [(Path(name).name if name.endswith(".json") else name, colon, count) for name, colon, count in parts]
        return ",".join("".join(part) for part in short)

    @property
    def bin_names(self) -> list[str]:
        """The bins as intervals of predicted output tokens, then the overdue queue where there is one."""
        queueing = self.config.queueing
        bounds = ["0", *(str(edge) for edge in queueing.edges), "inf"]
        intervals = [f"[{low}, {high})" for low, high in pairwise(bounds)]
        return intervals + ["overdue"] * (queueing.overdue_factor is not None)

    def describe(self) -> dict[str, Any]:
        """Everything that was simulated, ready for JSON; times in ms or s as the keys say, rates per second."""
        return describe(self)


def _time(ms: float) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _tokens(eta: float) -> str:
    return f"{eta:,.0f}" if math.isfinite(eta) else "unlimited"
