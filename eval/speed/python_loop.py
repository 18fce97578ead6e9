"""The rules of the compiled kernel in a plain-Python event loop, to measure the effect of compilation.

Static batches on servers of the form `split` in the engine `batch`, with the stamps of every request.  Controllers, the
record for the scheduler, inter-token latencies and preemption are left out, so the comparison favours Python.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

from llmsched_env.config import Server, SimConfig
from llmsched_env.requests import Requests


@dataclass
class Stamps:
    """Times in seconds, by request number."""

    dispatch: list[float]
    first_token: list[float]
    last_token: list[float]
    completion: list[float]


class PythonLoop:
    """One run of ``static:batch=N``; one object per run.  ``ValueError`` for a configuration outside its rules."""

    def __init__(self, config: SimConfig, requests: Requests, batch: int) -> None:
        if any(server.profile.form != "split" or server.profile.noise_sigma for server in config.servers):
            raise ValueError("the plain-Python loop knows profiles of the form split without noise only.")
        self.arrival = requests.arrival_s.tolist()
        self.prompt = requests.prompt_tokens.tolist()
        self.output = requests.output_tokens.tolist()
        self.predicted = requests.predicted_tokens.tolist()
        self.costs = [_seconds(server) for server in config.servers]
        self.etas = [server.eta for server in config.servers]
        self.batch = min(batch, config.max_batch)
        self.waiting: deque[int] = deque()
        self.stamps = Stamps(*([math.nan] * len(requests) for _ in range(4)))

    def run(self) -> Stamps:
        """Simulate to the end: completions, then arrivals, then free servers in number order."""
        arrival, waiting, n = self.arrival, self.waiting, len(self.arrival)
        free = list(range(len(self.etas)))
        ends: list[tuple[float, int]] = []
        number = 0
        while number < n or ends:
            if ends and (number == n or ends[0][0] <= arrival[number]):
                now = ends[0][0]
                while ends and ends[0][0] == now:
                    heapq.heappush(free, heapq.heappop(ends)[1])
            else:
                now = arrival[number]
            while number < n and arrival[number] <= now:
                waiting.append(number)
                number += 1
            while free and waiting:
                server = heapq.heappop(free)
                heapq.heappush(ends, (self._launch(server, now), server))
        return self.stamps

    def _launch(self, server: int, now: float) -> float:
        """Form the next batch, stamp its members, return its end."""
        eta, (d0, d1, d2, p0, p1, p2) = self.etas[server], self.costs[server]
        prompt, output, predicted, waiting = self.prompt, self.output, self.predicted, self.waiting
        members: list[int] = []
        reserved, total, squares, longest = 0.0, 0.0, 0.0, 0
        while waiting and len(members) < self.batch:
            i = waiting[0]
            length = prompt[i]
            reserved += min(length + predicted[i], eta)
            if reserved > eta:
                break
            members.append(waiting.popleft())
            total += length
            squares += float(length) * length
            longest = max(longest, output[i])
        b = len(members)
        if b == 0 or total + b * longest > eta:
            raise ValueError("the plain-Python loop has no preemption: give servers with more memory.")
        first = now + max(p0, p1 * total + p2 * squares)
        flat, slope = d0 + d1 * b + d2 * total, d2 * b
        stamps, end = self.stamps, first
        for i in members:
            steps = output[i] - 1.0
            last = first + steps * flat + slope * 0.5 * (steps + 1.0) * steps
            stamps.dispatch[i], stamps.first_token[i], stamps.last_token[i] = now, first, last
            end = max(end, last)
        for i in members:
            stamps.completion[i] = end
        return end


def _seconds(server: Server) -> tuple[float, ...]:
    """The coefficients d0, d1, d2, p0, p1, p2 in seconds."""
    return tuple(server.profile.coefficients[name] / 1000.0 for name in ("d0", "d1", "d2", "p0", "p1", "p2"))
