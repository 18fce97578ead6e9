"""What the tests of the policies share: records that are filled by hand, requests, servers, runs."""

from __future__ import annotations

import numpy as np
from numba import config as numba_config
from numpy.typing import NDArray

from llmsched.policies import Bound, parse
from llmsched_env.config import Controller, Queueing, Server, SimConfig
from llmsched_env.core.layout import RECORD
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate

EVERY = (
    *("static", "dynamic", "multibin", "multibin-fixed", "timeout", "adaptive-memory", "window", "priority"),
    *("longest-queue", "sjf", "edf", "least-slack", "aimd", "random", "oracle-sjf", "weighted-queue"),
)

VLLM = ("vllm-priority", "vllm-sjf", "vllm-residual-sjf", "vllm-slo", "vllm-cached", "vllm-least-computed")
CONTINUOUS = ("fcfs", "sarathi", "vllm", *VLLM, "iterative", "oracle-srpt")
"""Those of the engine `continuous` alone."""

STAMPS = ("dispatch", "first_token", "last_token", "completion")
SERVER = Server(load_profile("h100-80gb_llama2-70b_tp4"))


class Asked:
    """A policy with its memory and stream, asked about records that are filled by hand."""

    def __init__(self, text: str, memory: int | None = None, seed: int = 0) -> None:
        self.bound = parse(text)
        self.ready = self.bound.ready(SimConfig((SERVER,), engine=self.bound.policy.engines[0]))
        self.memory = np.zeros(max(1, self.ready.memory_size if memory is None else memory))
        self.rng = np.random.default_rng(seed)

    def __call__(self, lengths: tuple[int, ...] = (1,), **fields) -> tuple[int, int]:
        """The answer where bin k holds ``lengths[k]`` requests; heads get older from bin to bin unless given."""
        k = len(lengths)
        row = np.zeros(1, RECORD)
        row["overdue"] = -1
        values = {
            "num_bins": k,
            "max_batch": 128,
            "can_wait": 1,
            "waiting": sum(lengths),
            "queue_length": (*lengths, sum(lengths)),
            "head_number": [-1 if n == 0 else 100 - i for i, n in enumerate(lengths)],
            "target": range(10, 10 * (k + 2), 10),
            **fields,
        }
        for name, value in values.items():
            if RECORD[name].shape:
                row[name][0, : len(value)] = value
            else:
                row[name] = value
        record = row.view(np.recarray)[0] if numba_config.DISABLE_JIT else row[0]  # type: ignore[attr-defined]
        choice, size = self.ready.decide(record, self.ready.params, self.memory, self.rng)
        return int(choice), int(size)


def requests(n: int = 500, gap_s: float = 0.3, seed: int = 1) -> Requests:
    """Poisson arrivals, lognormal lengths, noisy predictions, two classes."""
    rng = np.random.default_rng(seed)
    output = np.maximum(1, rng.lognormal(5.0, 0.8, n)).astype(int)
    return Requests.checked(
        np.cumsum(rng.exponential(gap_s, n)),
        np.maximum(1, rng.lognormal(6.0, 0.8, n)).astype(int),
        output,
        np.maximum(1, np.rint(output * np.exp(0.3 * rng.standard_normal(n)))).astype(int),
    )


def config(servers: int = 1, edges: tuple[int, ...] = (100, 150, 250), **fields) -> SimConfig:
    """Servers of one kind with four bins."""
    server = Server(SERVER.profile, fields.pop("kv_tokens", None))
    return SimConfig((server,) * servers, Queueing(edges), controller=Controller(tbt_s=0.05), **fields)


def run(bound: Bound, config: SimConfig, requests: Requests, seed: int = 0) -> RunResult:
    """One run of a policy."""
    rng = np.random.default_rng(seed)
    ready = bound.ready(config)
    return simulate(ready.config, requests, ready.decide, rng=rng, log_batches=True, **ready.options)


def stamps(result: RunResult) -> NDArray[np.float64]:
    """All stamps of all requests, (4, N)."""
    return np.stack([result.requests[name] for name in STAMPS])
