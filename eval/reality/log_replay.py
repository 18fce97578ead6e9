"""A log's requests through the engine `continuous`, with the settings of the server that wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmsched.eval.reality.log_data import Floats
from llmsched.policies import parse
from llmsched_env.config import SLO, Continuous, Server, SimConfig
from llmsched_env.profiles import Profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate

ADMISSION, PREFILL = "prompt", "chunked"
"""As in vLLM's V1."""

PULL, SENT = "pull", "least-outstanding"
"""How requests find a server: there is one, or a front end sends each to the one with the fewest."""


@dataclass(frozen=True)
class EngineSettings:
    """The settings of the server: sequences at once, tokens of an iteration, KV memory in tokens; ``servers`` alike,
    each with all of that."""

    max_seqs: int = 256
    token_budget: float = 512
    kv_tokens: float = 580512
    servers: int = 1
    watermark: float = 0.01
    scheduling: str = "sync"
    prefix_cache: str = "off"

    def as_document(self) -> dict[str, Any]:
        """The field ``engine_settings`` of a profile that was fitted with them: what `compare` takes as defaults."""
        return {
            "max_seqs": self.max_seqs,
            "token_budget": self.token_budget,
            "admission": ADMISSION,
            "prefill": PREFILL,
            "scheduling": self.scheduling,
            "prefix_cache": self.prefix_cache,
            "watermark": self.watermark,
        }


@dataclass(frozen=True)
class ClientTimes:
    """Times in seconds, on the clock of the arrivals, of the first token and the end of every request (N,), and the
    seconds that the simulation took."""

    first_s: Floats
    done_s: Floats
    wall_s: float = 0.0


def replay(requests: Requests, profile: Profile, engine: EngineSettings) -> ClientTimes:
    """The times on such servers with ``profile``, by simulation."""
    bound = parse(f"static:batch={engine.max_seqs}")
    config = SimConfig(
        servers=(Server(profile, engine.kv_tokens),) * engine.servers,
        max_batch=engine.max_seqs,
        slos=(SLO(e2e_s=1e9),),
        engine="continuous",
        continuous=Continuous(
            admission=ADMISSION,
            prefill=PREFILL,
            token_budget=engine.token_budget,
            watermark=engine.watermark,
            scheduling=engine.scheduling,
            prefix_cache=engine.prefix_cache,
            routing=PULL if engine.servers == 1 else SENT,
        ),
    )
    ready = bound.ready(config)
    result = simulate(ready.config, requests, ready.decide, **ready.options)
    rows = result.requests
    return ClientTimes(rows["first_token"], rows["completion"], result.wall_s)
