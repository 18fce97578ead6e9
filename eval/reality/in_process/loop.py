"""The loop that serves requests on one model: arrivals by the clock, a scheduler, prefills and steps.

Every request has one row of the result, with an answer or with the reason why it has none.  Needs no torch: the model
is whatever has the methods of `Model`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.reality.in_process.rules import Job, Rule, View
from llmsched.eval.reality.serving.client import Served, prompt_ids
from llmsched_env.requests import Requests

TOO_LARGE, NO_MEMORY, TIMEOUT = "larger than the KV memory", "out of memory", "timeout"


class Model(Protocol):
    """A model with a KV cache whose rows are known by the numbers of their requests.

    ``reach``: most tokens that any row will hold.  `MemoryError`: there is not enough; all rows are gone then.
    """

    def start(self, prompts: Mapping[int, NDArray[np.int64]], reach: int) -> dict[int, int]:
        """Compute prompts, beside the rows that are there; their first tokens."""

    def step(self, reach: int) -> dict[int, int]:
        """One more token of every row."""

    def drop(self, numbers: Iterable[int]) -> None:
        """These rows leave."""


class Clock(Protocol):
    """A clock that can be waited for."""

    def now(self) -> float:
        """Seconds."""

    def sleep(self, seconds: float) -> None:
        """Wait so long."""


class WallClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Seconds, of a monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)


def reach_of(jobs: Iterable[Job], holds: bool) -> int:
    """Most tokens that a row of a batch of jobs will hold; ``holds``: rows are computed until all have ended."""
    found = list(jobs)
    if holds:
        return max(job.prompt for job in found) + max(job.tokens for job in found)
    return max(job.prompt + job.tokens for job in found)


class ServingLoop:
    """One run of requests under one scheduler; ``kv_tokens``: tokens of KV memory, padding counted.

    ``rows``: what became of each request, times in s since the run began; ``produced``: its tokens.
    """

    def __init__(
        self,
        requests: Requests,
        rule: Rule,
        model: Model,
        *,
        kv_tokens: int,
        timeout_s: float,
        seed: int,
        clock: Clock | None = None,
    ) -> None:
        self.rule, self.model, self.kv_tokens, self.timeout_s = rule, model, kv_tokens, timeout_s
        self.clock: Clock = clock or WallClock()
        lengths = zip(
            requests.arrival_s.tolist(), requests.prompt_tokens.tolist(), requests.output_tokens.tolist(), strict=True
        )
        self.jobs = [Job(i, arrived, int(prompt), int(tokens)) for i, (arrived, prompt, tokens) in enumerate(lengths)]
        self.prompts = [prompt_ids(job.prompt, seed, job.number) for job in self.jobs]
        self.rows = [Served(job.arrived, sent=job.arrived) for job in self.jobs]
        self.produced: list[list[int]] = [[] for _ in self.jobs]
        self.batches: list[int] = []
        self._coming = sorted(self.jobs, key=lambda job: job.arrived)[::-1]
        self._waiting: list[Job] = []
        self._running: dict[int, Job] = {}  # rows of the model, ended ones among them where the rule holds them
        self._idle_since = self._peak = 0.0
        self._reach = 0

    def run(self, progress: Callable[[], None] | None = None) -> list[Served]:
        """Serve all; ``progress`` is called when one has ended."""
        self._ended = progress or (lambda: None)
        self._began = self.clock.now()
        while self._coming or self._waiting or self._running:
            self._arrive()
            started = self._start() if self._waiting and (self.rule.joins or not self._running) else False
            if self._running:
                self._step()
            elif not started:
                self._sleep()
        return self.rows

    @property
    def _now(self) -> float:
        return self.clock.now() - self._began

    def _arrive(self) -> None:
        """Who is due waits; who has waited for too long has gone, and what can never be served is refused."""
        now = self._now
        while self._coming and self._coming[-1].arrived <= now:
            job = self._coming.pop()
            if self._footprint([job]) > self.kv_tokens:
                self._fail(job, TOO_LARGE)
            else:
                self._waiting.append(job)
        for job in [job for job in self._waiting if now - job.arrived > self.timeout_s]:
            self._waiting.remove(job)
            self._fail(job, TIMEOUT)

    def _fail(self, job: Job, reason: str) -> None:
        self.rows[job.number].error = reason
        self._ended()

    def _footprint(self, jobs: Sequence[Job]) -> int:
        """Tokens of KV memory that jobs take together at most: every row is as long as the longest, padding counted."""
        return len(jobs) * reach_of(jobs, self.rule.holds)

    def _view(self) -> View:
        inside = list(self._running.values())

        def fits(jobs: Sequence[Job]) -> bool:
            """Whether jobs fit the memory beside those in service."""
            return self._footprint([*inside, *jobs]) <= self.kv_tokens

        return View(self._now, self._waiting, len(inside), self._idle_since, fits)

    def _start(self) -> bool:
        """Begin what the scheduler chooses and the memory has room for; whether there was any."""
        view = self._view()
        chosen = self.rule.choose(view)
        while chosen and not view.fits(chosen):
            chosen.pop()
        if not chosen:
            return False
        numbers = {job.number for job in chosen}
        self._waiting = [job for job in self._waiting if job.number not in numbers]
        self._running |= {job.number: job for job in chosen}
        self.batches.append(len(self._running))
        self._reach = reach_of(self._running.values(), self.rule.holds)
        self._peak = max(self._peak, len(self._running) * self._reach / self.kv_tokens)
        prompts = {job.number: self.prompts[job.number] for job in chosen}
        self._take(lambda: self.model.start(prompts, self._reach))
        return True

    def _step(self) -> None:
        self._take(lambda: self.model.step(self._reach))

    def _take(self, work: Callable[[], dict[int, int]]) -> None:
        """Let the model work and stamp the tokens that it gives; those who have all leave, or are held."""
        try:
            tokens = work()
        except MemoryError:
            for number, job in self._running.items():
                if self._open(number):
                    self._fail(job, NO_MEMORY)
            self._running.clear()
            self._over()
            return
        now = self._now
        for number, token in tokens.items():
            if self._open(number):
                self._stamp(number, token, now)
        over = [number for number in self._running if not self._open(number)]
        if over and (len(over) == len(self._running) or not self.rule.holds):
            self.model.drop(over)
            for number in over:
                del self._running[number]
            if not self._running:
                self._over()

    def _open(self, number: int) -> bool:
        """Whether a request in service still waits for tokens."""
        return not self.rows[number].error and len(self.produced[number]) < self.jobs[number].tokens

    def _stamp(self, number: int, token: int, now: float) -> None:
        """Note a token of a request."""
        row, produced = self.rows[number], self.produced[number]
        if now - row.due > self.timeout_s:
            self._fail(self.jobs[number], TIMEOUT)
            return
        if produced:
            row.gaps.append(now - row.last)
        else:
            row.first = now
        row.last = now
        produced.append(token)
        row.tokens = len(produced)
        if row.tokens == self.jobs[number].tokens:
            self._ended()

    def _over(self) -> None:
        """The model has nothing to do."""
        self.rule.ended(self._peak)
        self._idle_since, self._peak = self._now, 0.0

    def _sleep(self) -> None:
        """Wait until something can happen: an arrival, the scheduler's own time, the end of a client's patience."""
        times = [self._coming[-1].arrived] if self._coming else []
        if self._waiting:
            times += [self.rule.ask_again(self._view()), self._waiting[0].arrived + self.timeout_s]
        wake = min(times, default=math.inf)
        if self._waiting or self._coming:
            self.clock.sleep(max(wake - self._now, 0.0) + 1e-6)
