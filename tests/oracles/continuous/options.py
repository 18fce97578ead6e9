"""What the engine `continuous` is asked for, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from llmsched_env.config import SimConfig
from llmsched_env.requests import Requests
from tests.oracles.batch.requests import load
from tests.oracles.sessions import Plan

INF = math.inf
SRPT = "oracle-srpt"
"""The one discipline that preempts by choice."""


@dataclass(frozen=True)
class Options:
    """The options that only this engine has."""

    admission: str = "predicted"  # or "prompt", "chunk"
    prefill: str = "chunked"  # or "first", "whole"
    token_budget: float = 2048
    routing: str = "pull"  # or "round-robin", "least-outstanding", "join-shortest-kv"
    watermark: float = 0.0  # share of the blocks
    window_s: float = 1.0
    srpt: bool = False
    scheduling: str = "sync"  # or "async"
    prefix_cache: str = "off"  # or "on"
    max_chunk: float = INF  # tokens of a prompt in an iteration
    victim: str = "newest"  # or "last-class", "least-computed"
    returned: str = "first"  # or "ordered"

    @property
    def ahead(self) -> bool:
        """Whether iterations are composed one boundary early."""
        return self.scheduling == "async"

    @property
    def strict(self) -> bool:
        """Whether no request joins where a member was preempted, also with synchronous scheduling."""
        return self.ahead or self.admission == "chunk" or self.victim != "newest" or self.returned == "ordered"

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
            asked.max_chunk,
            asked.victim,
            asked.returned,
        )


def plan_of(config: SimConfig, requests: Requests) -> Plan:
    """The requests to come; `oracle-srpt` has no static key."""
    if config.queueing.discipline == SRPT:
        config = replace(config, queueing=replace(config.queueing, discipline="fifo"))
    return Plan(requests, lambda row, number, arrival: load(config, requests, row, number, arrival))
