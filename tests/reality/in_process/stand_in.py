"""A model without weights and a clock without waiting: the loop in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from llmsched.eval.reality.in_process.loop import ServingLoop
from llmsched.eval.reality.in_process.rules import parse
from llmsched_env.requests import Requests

PREFILL_S, STEP_S = 0.02, 0.01


class Clock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        """The time."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """The time moves on."""
        self.time += seconds


class Model:
    """Takes PREFILL_S for prompts and STEP_S for a step; a token says whose it is and which.

    ``most``: tokens of KV memory, beyond which it raises `MemoryError`; ``rows`` and ``log`` say who was in service.
    """

    def __init__(self, clock: Clock, most: float = float("inf")) -> None:
        self.clock, self.most = clock, most
        self.rows: dict[int, int] = {}
        self.log: list[tuple[float, str, tuple[int, ...]]] = []

    def _work(self, what: str, seconds: float) -> None:
        self.clock.time += seconds
        self.log.append((self.clock.time, what, tuple(self.rows)))

    def start(self, prompts: Mapping[int, Any], reach: int) -> dict[int, int]:
        """First tokens."""
        assert prompts and not set(prompts) & set(self.rows)
        if (len(self.rows) + len(prompts)) * reach > self.most:
            self.rows.clear()
            raise MemoryError
        self.rows |= dict.fromkeys(prompts, 0)
        self._work("start", PREFILL_S)
        return {number: 1000 * number for number in prompts}

    def step(self, reach: int) -> dict[int, int]:
        """A token of every row."""
        assert self.rows
        for number in self.rows:
            self.rows[number] += 1
        self._work("step", STEP_S)
        return {number: 1000 * number + at for number, at in self.rows.items()}

    def drop(self, numbers: Iterable[int]) -> None:
        """Rows leave."""
        for number in numbers:
            del self.rows[number]


def some(rng: np.random.Generator, n: int = 40, gap_s: float = 0.05, tokens: int = 30) -> Requests:
    """``n`` requests at random times, of random lengths."""
    arrivals = np.cumsum(rng.exponential(gap_s, n))
    return Requests.checked(arrivals, rng.integers(1, 50, n), rng.integers(1, tokens + 1, n))


def serve(text: str, requests: Requests, *, most: float = float("inf"), **more: Any) -> tuple[ServingLoop, Model]:
    """A run in virtual time, and its model."""
    clock = Clock()
    model = Model(clock, most)
    settings = {"kv_tokens": 10**9, "timeout_s": 1e9} | more
    loop = ServingLoop(requests, parse(text)(), model, seed=0, clock=clock, **settings)
    loop.run()
    return loop, model
