"""Requests, the order in which they wait, and the bins they wait in (docs/reference/semantics.md)."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmsched_env.config import SimConfig
from llmsched_env.requests import Requests
from tests.oracles.batch.latency import prefill_s, service_alone_s

WAITING, IN_SERVICE, COMPLETED, REJECTED, DROPPED, REFUSED, ABANDONED = range(7)
"""Status of a request; at the end of a run the first two are together `unfinished`."""

PRIORITY_REFERENCE_TOKENS = 64
"""Predicted length from which the `priority` discipline gives no bonus to short requests."""


@dataclass
class Request:
    """One request and what has happened to it."""

    number: int
    arrival: float
    prompt: int
    output: int
    predicted: int
    slo_class: int
    bin: int  # where it waits: its bin, or number K, the overdue queue
    key: float  # static order inside the bin
    due: float = math.inf  # when it becomes overdue
    length_bin: int = -1  # the bin of its predicted length
    overdue: int = 0  # how many were overdue when it became so, itself included
    generated: int = 0
    returned: bool = False
    status: int = WAITING
    preemptions: int = 0
    cached: int = 0  # tokens that it found in a prefix cache
    dispatch: float = math.nan
    first_token: float = math.nan
    last_token: float = math.nan
    completion: float = math.nan
    left: float = math.nan  # when it was refused or abandoned
    reason: str = ""  # why it was refused

    @property
    def context(self) -> int:
        """P: tokens of its next prefill."""
        return self.prompt + self.generated

    @property
    def remaining(self) -> int:
        """R: output tokens that it still lacks at its dispatch."""
        return self.output - self.generated

    def order(self) -> tuple[int, float, int]:
        """Sort key in a bin: the preempted first, by number; the others by key, or in the order of becoming overdue."""
        if self.returned:
            return (0, 0.0, self.number)
        return (1, float(self.overdue) if self.overdue else self.key, self.number)

    def reservation(self, eta: float) -> float:
        """Tokens that it reserves on a server of capacity ``eta``."""
        return min(self.prompt + self.predicted, eta)


def discipline_key(
    config: SimConfig, arrival: float, prompt: int, output: int, predicted: int, slo_class: int
) -> float:
    """The static key of the configured discipline."""
    queueing = config.queueing
    slo = config.slos[slo_class]
    deadline = arrival + min(slo.ttft_s, slo.e2e_s)
    match queueing.discipline:
        case "fifo":
            return arrival
        case "sjf":
            return predicted + arrival / queueing.aging_s
        case "oracle-sjf":
            return float(output)
        case "edf":
            return deadline
        case "slack":
            return deadline - service_alone_s(config.servers[0].profile, prompt, predicted)
        case "priority":
            max_wait = queueing.max_wait_s if math.isfinite(queueing.max_wait_s) else 1.0
            return arrival / max_wait - max(0.0, 1 - predicted / PRIORITY_REFERENCE_TOKENS)
    raise ValueError(f"unknown discipline {queueing.discipline!r}")


def due(config: SimConfig, arrival: float, prompt: int, predicted: int, slo_class: int) -> float:
    """When a request becomes overdue: max(arrival, last start); inf where there is no overdue queue."""
    factor = config.queueing.overdue_factor
    if factor is None:
        return math.inf
    slo, profile = config.slos[slo_class], config.servers[0].profile
    prefill, service = prefill_s(profile, [prompt]), service_alone_s(profile, prompt, predicted)
    left = (
        target - min(factor * alone, max(alone, target / 2)) if math.isfinite(target) else math.inf
        for alone, target in ((prefill, slo.ttft_s), (service, slo.e2e_s))
    )
    return max(arrival, arrival + min(left))


def make_overdue(config: SimConfig, request: Request, others: Iterable[Request]) -> None:
    """Put a request behind all of ``others`` that are overdue."""
    request.overdue = 1 + max((other.overdue for other in others), default=0)
    request.bin = config.queueing.num_bins


def move_overdue(config: SimConfig, waiting: Iterable[Request], everything: Sequence[Request], now: float) -> bool:
    """Make overdue all requests that are due; whether any was."""
    if config.queueing.refuses_overdue:
        return False
    changed = [r for r in waiting if not r.returned and not r.overdue and r.due <= now]
    for request in sorted(changed, key=lambda r: (r.due, r.number)):
        make_overdue(config, request, everything)
    return bool(changed)


def in_order_of_any(waiting: Iterable[Request]) -> list[Request]:
    """What `any` offers: the merge of the bins; while those are empty, the overdue queue."""
    everything = sorted(waiting, key=Request.order)
    return [request for request in everything if not request.overdue] or everything


def load(config: SimConfig, requests: Requests, row: int, number: int, arrival: float) -> Request:
    """Row ``row`` as an object that arrives at ``arrival``, with its bin, its key, and when it becomes overdue."""
    prompt = int(requests.prompt_tokens[row])
    output = int(requests.output_tokens[row])
    predicted = int(requests.predicted_tokens[row])
    slo_class = int(requests.slo_class[row])
    bin_ = sum(1 for edge in config.queueing.edges if edge <= predicted)
    key = discipline_key(config, arrival, prompt, output, predicted, slo_class)
    if config.queueing.class_priority == "strict":
        key = min(key, 2.0**32) + 2.0**33 * slo_class
    overdue = due(config, arrival, prompt, predicted, slo_class)
    return Request(number, arrival, prompt, output, predicted, slo_class, bin_, key, overdue, bin_)


class Bin:
    """A queue, kept sorted."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, request: Request) -> None:
        """Put a request in its place."""
        bisect.insort(self.waiting, request, key=Request.order)

    def remove(self, request: Request) -> None:
        """Take a request out."""
        self.waiting = [other for other in self.waiting if other is not request]
