"""What is run: policies, loads, repeats, the workload and its targets, the server; and the bars, set before the run."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from llmsched.eval.reality.serving.vllm_server import OWN_ORDER
from llmsched_env.config import SLO
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.workload.bins import bin_edges
from llmsched_env.workload.workload import Workload

NETWORK = "network"
POLICIES = (OWN_ORDER, "static:batch=16", "sjf:batch=16", "multibin", "longest-queue", NETWORK)
"""The first is what the others are held against."""

LOADS = (0.7, 0.9, 1.2)
REPEATS = 4
REQUESTS = 300

WORKLOAD = "azure-conv"
PROMPT_SHARE, OUTPUT_SHARE = 10, 5
"""By what the lengths of the workload are divided: the model is small, and so is its server."""

BINS = 4
SERVER_WORDS = (
    "--dtype float32 --max-model-len 4096 --max-num-seqs 16 --max-num-batched-tokens 512 --enforce-eager "
    "--no-enable-prefix-caching --no-async-scheduling --num-gpu-blocks-override 257 "
    "--disable-uvicorn-access-log"
)
"""Arguments of every server.  Synchronous: so every policy decides in the server as it does in the simulator
(docs/howto/vllm.md).  256 blocks of 128 tokens, so that six servers fit into the memory of a small machine."""

TPOT_STEPS, TTFT_STEPS = 3.0, 25.0
"""Targets where none are given: multiples of a step in which MEMBERS requests decode, by the first profile."""

MEMBERS, CONTEXT = 16, 160.0

ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Bars:
    """What counts as carried over; shares.  A latency is within its bar, or within twice the spread of the repeats.

    ``tau`` over pairs that are decided in both; ``gain``: most relative error of the network's gain.
    """

    e2e: float = 0.07
    ttft_p95: float = 0.15
    spreads: float = 2.0
    tau: float = 0.8
    gain: float = 1 / 3


BARS = Bars()


@dataclass(frozen=True)
class Plan:
    """One experiment.  ``slo``: targets in ms by name, of ``ttft``, ``tpot``; empty: see `with_targets`."""

    policies: tuple[str, ...] = POLICIES
    loads: tuple[float, ...] = LOADS
    repeats: int = REPEATS
    requests: int = REQUESTS
    slo: tuple[tuple[str, float], ...] = ()
    seed: int = 0
    server_words: str = SERVER_WORDS

    def with_targets(self, profile: Profile) -> Plan:
        """The plan with the targets that were given, and those of a server's first profile for the others."""
        step = profile.decode_step_ms(MEMBERS, MEMBERS * CONTEXT)
        usual = {"ttft": round(TTFT_STEPS * step, 1), "tpot": round(TPOT_STEPS * step, 2)}
        return replace(self, slo=tuple({**usual, **dict(self.slo)}.items()))

    @property
    def slos(self) -> tuple[SLO, ...]:
        """The targets, of one class."""
        given = {name: ms / 1000.0 for name, ms in self.slo}
        return (SLO(ttft_s=given.get("ttft", math.inf), tpot_s=given.get("tpot", math.inf)),)

    @property
    def edges(self) -> tuple[int, ...]:
        """Lower bounds of the bins, in predicted tokens."""
        edges = bin_edges(Workload(WORKLOAD, requests=self.requests), BINS)
        return (0, *(max(1, edge // OUTPUT_SHARE) for edge in edges))

    def settings(self, policy: str, profile: str) -> dict[str, Any]:
        """What the scheduler class, and the simulator, are told of a policy; ``profile``: a file."""
        return {"policy": policy, "bins": list(self.edges), "slo": dict(self.slo), "profile": profile}

    def draw(self, rate: float, seed: int, count: int | None = None) -> Requests:
        """The requests of a run: Poisson arrivals at ``rate`` requests/s, lengths of the workload, divided."""
        law = Workload(WORKLOAD, requests=count or self.requests, rate=rate, burstiness=1.0)
        drawn = law.draw(seed, "test")

        def divided(tokens: Any, share: int) -> Any:
            return np.maximum(np.asarray(tokens) // share, 1)

        return Requests.checked(
            drawn.arrival_s,
            divided(drawn.prompt_tokens, PROMPT_SHARE),
            divided(drawn.output_tokens, OUTPUT_SHARE),
            divided(drawn.predicted_tokens, OUTPUT_SHARE),
        )

    def blocks(self) -> list[tuple[int, float]]:
        """(repeat, load) in the order in which they are run: every load before the next repeat."""
        return [(repeat, load) for repeat in range(self.repeats) for load in self.loads]

    def order(self, block: int) -> list[str]:
        """The policies in the order in which a block runs them: each block begins with another one."""
        at = block % len(self.policies)
        return [*self.policies[at:], *self.policies[:at]]

    def describe(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            **json.loads(json.dumps(asdict(self))),
            "workload": WORKLOAD,
            "prompt_share": PROMPT_SHARE,
            "output_share": OUTPUT_SHARE,
            "bins": list(self.edges),
            "bars": asdict(BARS),
        }

    def key(self, *words: Any) -> str:
        """Names a run, or the set-up, by all that it depends on."""
        what = [self.describe(), *words]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:32]
