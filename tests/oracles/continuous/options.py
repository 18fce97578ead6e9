"""What the engine `continuous` is asked for, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from llmsched_env.config import SimConfig
from llmsched_env.requests import Requests
from tests.oracles.batch.requests import load
from tests.oracles.sessions import Plan

SRPT = "oracle-srpt"
"""The one discipline that preempts by choice."""


@dataclass(frozen=True)
class Options:
    """The options that only this engine has."""

    admission: str = "predicted"  # or "prompt"
    prefill: str = "chunked"  # or "first"
    token_budget: float = 2048
    routing: str = "pull"  # or "round-robin", "least-outstanding", "join-shortest-kv"
    watermark: float = 0.0  # share of the blocks
    window_s: float = 1.0
    srpt: bool = False
    scheduling: str = "sync"  # or "async"
    prefix_cache: str = "off"  # or "on"

    @property
    def ahead(self) -> bool:
        """Whether iterations are composed one boundary early."""
        return self.scheduling == "async"

    @classmethod
    def of(cls, config: Any) -> Options:
        """The options of a configuration whose engine is `continuous`."""
        asked = config.continuous
        return cls(
            asked.admission,
            asked.prefill,
            asked.token_budget,
            asked.routing,
            asked.watermark,
            asked.window_s,
            config.queueing.discipline == SRPT,
            asked.scheduling,
            asked.prefix_cache,
        )


def plan_of(config: SimConfig, requests: Requests) -> Plan:
    """The requests to come; `oracle-srpt` has no static key."""
    if config.queueing.discipline == SRPT:
        config = replace(config, queueing=replace(config.queueing, discipline="fifo"))
    return Plan(requests, lambda row, number, arrival: load(config, requests, row, number, arrival))
