"""The same requests twice: through real batches on a device, and through the simulator with a profile.

Both follow one rule: whenever the server is free and requests wait, it takes the oldest, at most ``batch``, and runs
them to completion.  A real batch is executed in full, and its time advances the clock of the arrivals, so that no time
is spent on waiting for arrivals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsched.policies import parse
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate

Floats = NDArray[np.float64]
Serve = Callable[[Sequence[int], Sequence[int]], tuple[float, float]]
"""Runs a batch, given its prompts and outputs in tokens; returns ms to the first token, and from it to the end."""

METRICS = ("e2e_p50", "e2e_p95", "e2e_p99", "e2e_mean", "ttft_p50", "ttft_p95", "throughput", "makespan")
UNITS = {"throughput": "req/s"}
"""Units of the metrics that are not in seconds."""


@dataclass(frozen=True)
class Lengths:
    """Lognormal lengths in tokens: medians of prompts and outputs, sigma of the logarithm, and the longest one."""

    prompt: float
    output: float
    sigma: float = 0.6
    most: int = 256

    def draw(self, median: float, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """n lengths around ``median``, from 4 to ``most`` tokens."""
        return np.clip(np.round(median * np.exp(self.sigma * rng.standard_normal(n))), 4, self.most).astype(int)


def draw_requests(lengths: Lengths, n: int, rate: float, rng: np.random.Generator) -> Requests:
    """n requests of a Poisson stream of ``rate`` per second."""
    arrival = np.cumsum(rng.exponential(1.0 / rate, n))
    return Requests.checked(arrival, lengths.draw(lengths.prompt, n, rng), lengths.draw(lengths.output, n, rng))


def service_ms(profile: Profile) -> Serve:
    """A server whose times are those of the profile."""

    def serve(prompts: Sequence[int], outputs: Sequence[int]) -> tuple[float, float]:
        batch, held, steps = len(prompts), sum(prompts), range(1, max(outputs))
        return profile.prefill_ms(prompts), float(sum(profile.decode_step_ms(batch, held + batch * j) for j in steps))

    return serve


def capacity(profile: Profile, lengths: Lengths, batch: int, rng: np.random.Generator) -> float:
    """Requests per second with full batches under the profile."""
    serve, rounds = service_ms(profile), 200
    prompts, outputs = (lengths.draw(median, rounds * batch, rng) for median in (lengths.prompt, lengths.output))
    spent = sum(sum(serve(list(prompts[k::rounds]), list(outputs[k::rounds]))) for k in range(rounds))
    return 1e3 * rounds * batch / spent


def replay(requests: Requests, batch: int, serve: Serve) -> tuple[Floats, Floats]:
    """Serve the requests; the times of the first token (N,) and of the release (N,), in seconds."""
    first, done = np.empty(len(requests)), np.empty(len(requests))
    now, head = 0.0, 0
    while head < len(requests):
        now = max(now, float(requests.arrival_s[head]))
        tail = min(int(np.searchsorted(requests.arrival_s, now, side="right")), head + batch)
        members = slice(head, tail)
        prefill, rest = serve(requests.prompt_tokens[members].tolist(), requests.output_tokens[members].tolist())
        first[members] = now + prefill / 1e3
        now += (prefill + rest) / 1e3
        done[members] = now
        head = tail
    return first, done


@dataclass(frozen=True)
class ServedBatch:
    """A real batch: prompts and outputs of its requests in tokens, and its time in ms."""

    prompts: Sequence[int]
    outputs: Sequence[int]
    ms: float


def record_batches(serve: Serve, batches: list[ServedBatch]) -> Serve:
    """``serve``, with every batch appended to ``batches``."""

    def serve_and_record(prompts: Sequence[int], outputs: Sequence[int]) -> tuple[float, float]:
        found = serve(prompts, outputs)
        batches.append(ServedBatch(prompts, outputs, sum(found)))
        return found

    return serve_and_record


def service_errors(batches: Sequence[ServedBatch], profile: Profile) -> Floats:
    """Predicted over measured service time, minus 1, of every real batch, (batches,): without the wait."""
    serve = service_ms(profile)
    return np.array([sum(serve(b.prompts, b.outputs)) / b.ms - 1.0 for b in batches])


def simulate_replay(requests: Requests, batch: int, profile: Profile, noise_key: int = 0) -> tuple[Floats, Floats]:
    """The times of ``replay`` from the simulator; ``noise_key``: the key of the latency noise."""
    bound = parse(f"static:batch={batch}")
    config = SimConfig(servers=(Server(profile),), queueing=Queueing(), max_batch=batch, slos=(SLO(e2e_s=1e9),))
    ready = bound.ready(config)
    rows = simulate(ready.config, requests, ready.decide, noise_key=noise_key, **ready.options).requests
    return rows["first_token"].copy(), rows["completion"].copy()


def metrics_of(requests: Requests, first: Floats, done: Floats) -> dict[str, float]:
    """The METRICS of a run, in seconds and requests per second (docs/reference/metrics.md)."""
    e2e, ttft = done - requests.arrival_s, first - requests.arrival_s
    span = float(done.max() - requests.arrival_s[0])
    values = [*np.percentile(e2e, [50, 95, 99]), e2e.mean(), *np.percentile(ttft, [50, 95]), len(requests) / span, span]
    return dict(zip(METRICS, map(float, values), strict=True))
