"""The schedulers of two published projects for a model in this process: which waiting requests begin now.

``naive`` and ``dynamic`` are those of a benchmark of GPT-2, ``window``, ``iterative`` and ``packing`` those of a
simulator of steps.  docs/howto/real.md says what was wrong with each and is mended here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmsched.policies.parameters import Number, Value, number, read_value
from llmsched_env.options.suggest import did_you_mean


@dataclass(frozen=True)
class Job:
    """A request as a scheduler sees it: its number, when it arrived (s), its prompt, the tokens that it asks for."""

    number: int
    arrived: float
    prompt: int
    tokens: int


@dataclass(frozen=True)
class View:
    """What a scheduler sees: the time (s), who waits, by arrival, how many are in service, since when the model has
    had nothing to do, and whether jobs would fit the KV memory beside those in service."""

    now: float
    waiting: Sequence[Job]
    running: int
    idle_since: float
    fits: Callable[[Sequence[Job]], bool]


class Rule:
    """A scheduler.  ``joins``: it is asked while others are in service; ``holds``: a row is computed until all of its
    batch have ended, as ``generate`` does it."""

    joins = False
    holds = True

    def choose(self, view: View) -> list[Job]:
        """The jobs that begin now, in order; empty: none.  Those at the end that do not fit are left out."""
        raise NotImplementedError

    def ask_again(self, view: View) -> float:
        """When it may choose otherwise though nothing else happened, s; inf: never."""
        return math.inf

    def ended(self, kv_share: float) -> None:
        """A batch is over; ``kv_share``: of the KV memory it took at most."""


class Naive(Rule):
    """A batch of ``batch`` requests, or what is there ``wait`` after the model became free."""

    def __init__(self, batch: float, wait: float) -> None:
        self.batch, self.wait_s = int(batch), wait

    def choose(self, view: View) -> list[Job]:
        """All that wait, up to a batch, where it is full or the time is over."""
        full = len(view.waiting) >= self.batch
        return list(view.waiting[: self.batch]) if full or view.now >= self.ask_again(view) else []

    def ask_again(self, view: View) -> float:
        """When the time is over."""
        return view.idle_since + self.wait_s


class DynamicMemory(Rule):
    """A batch whose size follows the memory that the one before took, or what is there ``wait`` after the oldest came.

    Two more after a batch below ``memory`` (a share), one less after one above.
    """

    UP, DOWN = 2, 1

    def __init__(self, least: float, most: float, wait: float, memory: float) -> None:
        self.least, self.most, self.wait_s, self.memory = int(least), int(max(least, most)), wait, memory
        self.size = self.least

    def choose(self, view: View) -> list[Job]:
        """All that wait, up to the size, where it is reached or the oldest has waited enough."""
        full = len(view.waiting) >= self.size
        return list(view.waiting[: self.size]) if full or view.now >= self.ask_again(view) else []

    def ask_again(self, view: View) -> float:
        """When the oldest has waited enough."""
        return view.waiting[0].arrived + self.wait_s if view.waiting else math.inf

    def ended(self, kv_share: float) -> None:
        """Choose the next size."""
        step = -self.DOWN if kv_share >= self.memory else self.UP
        self.size = min(self.most, max(self.least, self.size + step))


class Window(Rule):
    """All that wait, every ``every`` seconds, and not before the batch under way is over."""

    def __init__(self, every: float) -> None:
        self.every_s, self._last = every, 0.0

    def choose(self, view: View) -> list[Job]:
        """All, where a window is over."""
        if not view.waiting or view.now < self.ask_again(view):
            return []
        self._last = view.now
        return list(view.waiting)

    def ask_again(self, view: View) -> float:
        """When the window is over."""
        return self._last + self.every_s


class Iterative(Rule):
    """All that wait join the next iteration, up to ``batch`` in service; who has ended leaves at once."""

    joins, holds = True, False

    def __init__(self, batch: float | None) -> None:
        self.batch = math.inf if batch is None else batch

    def choose(self, view: View) -> list[Job]:
        """The oldest for whom there is a place."""
        free = self.batch - view.running
        return list(view.waiting if free == math.inf else view.waiting[: int(free)])


class Packing(Rule):
    """A new batch where the one before is over, packed by priority: waiting time in units of ``wait``, and up to 1 for
    those with fewer than ``short`` tokens to produce.

    At most ``batch`` requests and ``tokens`` to be produced in all.  Who has waited for ``wait`` goes before all
    others, and the first of the order is always taken.  Who has ended leaves at once, nobody joins.
    """

    holds = False
    ENOUGH = 0.8
    """Share of ``batch`` at which a batch is no longer filled."""

    def __init__(self, batch: float, tokens: float, wait: float, short: float) -> None:
        self.batch, self.tokens, self.wait_s, self.short = int(batch), int(tokens), wait, short

    def priority(self, job: Job, now: float) -> float:
        """The higher, the sooner."""
        return (now - job.arrived) / self.wait_s + max(0.0, (self.short - job.tokens) / self.short)

    def choose(self, view: View) -> list[Job]:
        """The jobs of the order that fit, each by itself left out where it does not."""
        chosen: list[Job] = []
        total = 0
        late = lambda job: view.now - job.arrived >= self.wait_s  # noqa: E731
        for job in sorted(view.waiting, key=lambda job: (not late(job), -self.priority(job, view.now))):
            if len(chosen) >= self.batch or (len(chosen) >= self.ENOUGH * self.batch and not late(job)):
                break
            if not chosen or (total + job.tokens <= self.tokens and view.fits([*chosen, job])):
                chosen.append(job)
                total += job.tokens
        return chosen


@dataclass(frozen=True)
class Scheduler:
    """A scheduler that can be named: what makes it, and its parameters."""

    make: Callable[..., Rule]
    params: Mapping[str, Number]


MOST = 4096


def wait(default: float) -> Number:
    """The parameter of a time, written in ms."""
    return number(default, 1.0, 1e6, unit="ms")


SCHEDULERS: Mapping[str, Scheduler] = {
    "naive": Scheduler(Naive, {"batch": number(8, 1, MOST, whole=True), "wait": wait(500.0)}),
    "dynamic": Scheduler(
        DynamicMemory,
        {
            "least": number(2, 1, MOST, whole=True),
            "most": number(32, 1, MOST, whole=True),
            "wait": wait(2000.0),
            "memory": number(0.9, 0.0, 1.0),
        },
    ),
    "window": Scheduler(Window, {"every": wait(500.0)}),
    "iterative": Scheduler(Iterative, {"batch": number(None, 1, MOST, whole=True)}),
    "packing": Scheduler(
        Packing,
        {
            "batch": number(16, 1, MOST, whole=True),
            "tokens": number(512, 1, 1e9, whole=True),
            "wait": wait(2000.0),
            "short": number(10, 1, 1e6),
        },
    ),
}
"""By name; defaults are those of their projects where time is real, and 500 and 2,000 ms where it was steps."""


def parse(text: str) -> Callable[[], Rule]:
    """What makes the scheduler ``NAME:PARAMETER=VALUE...`` anew; ``ValueError`` in one line for anything else."""
    name, *parts = (piece.strip() for piece in text.split(":"))
    if name not in SCHEDULERS:
        near = did_you_mean(name, SCHEDULERS)
        raise ValueError(f"{name!r} is no scheduler of --backend transformers.{near} Choose {', '.join(SCHEDULERS)}.")
    scheduler = SCHEDULERS[name]
    values: dict[str, Value] = {key: parameter.default for key, parameter in scheduler.params.items()}
    given: set[str] = set()
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in scheduler.params or not equals:
            near = did_you_mean(key, scheduler.params)
            raise ValueError(f"{text}: {part!r} is not known.{near} {name} takes {', '.join(scheduler.params)}, as =.")
        if key in given:
            raise ValueError(f"{text}: {key} is given twice.")
        given.add(key)
        values[key] = read_value(name, key, scheduler.params[key], value)
    in_seconds = {key: None if value is None else scheduler.params[key].encode(value) for key, value in values.items()}
    return lambda: scheduler.make(**in_seconds)
