"""The two batch-size controllers of every choice (docs/reference/semantics.md, Controllers)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from llmsched_env.config import Controller, SimConfig
from llmsched_env.core.constants import L0_EVERY
from tests.oracles.batch.batches import Run


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
