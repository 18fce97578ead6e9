"""The controllers of the engine `continuous`: memory by bin, SLA by server (docs/reference/continuous.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from llmsched_env.config import SimConfig
from tests.oracles.batch.controllers import MemoryController, SlaController
from tests.oracles.batch.latency import safe_tbt_s
from tests.oracles.batch.requests import Request
from tests.oracles.continuous.server import Server, Window


class Controllers:
    """Everything that yields a target."""

    def __init__(self, config: SimConfig, servers: Sequence[Server], window_s: float, tbt_s: float | None) -> None:
        settings = config.controller
        if settings.kind != "paper":
            raise ValueError("controller=peer belongs to the engine batch")
        self.settings = settings
        self.window_s = window_s
        self.max_batch = config.max_batch
        eta = min(server.eta for server in servers)
        self.any = config.queueing.num_bins
        choices = self.any + 1 + config.queueing.has_overdue
        self.memory = [MemoryController(settings, eta, config.max_batch) for _ in range(choices)]
        self.fed = [0] * choices
        tbt = safe_tbt_s(config) if tbt_s is None else tbt_s
        whole = replace(settings, ema=1.0)  # no averaging beyond the window
        self.sla = [SlaController(whole, tbt, config.max_batch) for _ in servers]

    def completed(self, request: Request) -> None:
        """Feed the memory controllers of the bin of its length and of `any`."""
        for choice in (request.length_bin, self.any):
            self.fed[choice] += 1
            memory = self.memory[choice]
            memory.m1.weight = memory.m2.weight = max(1 / self.fed[choice], self.settings.ema / 10)
            memory.update([request.prompt + request.output], request.output - 1)

    def segment_ended(self, server: Server, now: float) -> None:
        """Update the SLA controller of a server if its window is over."""
        window = server.window
        if now - window.since < self.window_s or window.iterations == 0:
            return
        self.sla[server.number].update(window.time, window.iterations, window.member_iterations)
        server.window = Window(since=now)

    def target(self, choice: int, server: Server) -> int:
        """Target of a bin (or `any`) on a server."""
        least = max(self.settings.b_min, len(server.decoding))
        middle = (self.sla[server.number].low + self.sla[server.number].high) / 2
        return min(max(min(self.memory[choice].target, math.floor(middle)), least), self.max_batch)
