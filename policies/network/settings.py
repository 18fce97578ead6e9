"""What the network sets in the simulator: discipline, overdue queue and, in `continuous`, chunked prefill."""

from __future__ import annotations

import math
from dataclasses import replace

from llmsched_env.config import Continuous, Server, SimConfig

OVERDUE_FACTOR = {"batch": 2.0, "continuous": 5.0}
"""A request becomes overdue when the time it has left is less than this factor x its service time alone (its prefill
alone in `continuous`); by engine (config.Queueing)."""

OVERDUE_BATCH_FACTOR = 0.75
"""It becomes overdue too when it has less left than this factor x the time of the batch being formed (`batch`)."""

OVERDUE_OF_PPO = (0.5, 0.65)
"""Both factors of the policy `ppo`, chosen on arrivals of seeds 300 to 304: predictions are noisy, and with larger ones
more requests are given up that would have been in time (docs/results/learned.md)."""

FEW_SERVERS = 2
"""Up to this number of servers, every one has to serve all lengths."""

CHUNK_SHARE = 0.4
"""Share of the TPOT target that the prompt chunks of an iteration may take."""

DECODE_TOKENS = 100.0
"""Tokens of an iteration's budget that are left for decoding."""

PROBE_TOKENS = 2048.0
"""Length of the prefill from which the time per prompt token is read."""


def choose_discipline(config: SimConfig) -> str:
    """Order inside the bins: shortest prediction first where few servers, or one bin, cannot keep lengths apart, else
    first come first served."""
    return "sjf" if len(config.servers) <= FEW_SERVERS or not config.queueing.edges else "fifo"


def prompt_token_s(server: Server) -> float:
    """Time of a token of a prompt of PROBE_TOKENS, s."""
    return server.profile.prefill_ms([PROBE_TOKENS]) / PROBE_TOKENS / 1000.0


def choose_token_budget(servers: tuple[Server, ...], tpot_s: float) -> float:
    """Tokens per iteration whose prompt chunks take CHUNK_SHARE of the TPOT target (s) on the fastest server."""
    return float(round(DECODE_TOKENS + CHUNK_SHARE * tpot_s / min(prompt_token_s(server) for server in servers)))


def adapt_batch(
    config: SimConfig, factor: float = OVERDUE_FACTOR["batch"], batch_factor: float = OVERDUE_BATCH_FACTOR
) -> SimConfig:
    """``config`` with the discipline and the overdue queue that go with a network of the engine `batch`."""
    queueing = replace(
        config.queueing,
        discipline=choose_discipline(config),
        overdue_factor=factor,
        overdue_batch_factor=batch_factor,
    )
    return replace(config, queueing=queueing)


def adapt_continuous(config: SimConfig, budget: float | None = None) -> SimConfig:
    """``config`` with the order, the overdue queue and the chunks that go with the network of `continuous`.

    ``budget``: tokens of an iteration where they are given.  The running set is at most as large, so that decoding
    alone never takes more.
    """
    tpot_s = config.slos[0].tpot_s
    if budget is None:
        unknown = math.isinf(tpot_s)
        budget = config.continuous.token_budget if unknown else choose_token_budget(config.servers, tpot_s)
    most = int(min(config.max_batch, budget))
    own: Continuous = replace(config.continuous, admission="prompt", prefill="chunked", token_budget=budget)
    queueing = replace(config.queueing, discipline="fifo", overdue_factor=OVERDUE_FACTOR["continuous"])
    return replace(config, queueing=queueing, continuous=own, max_batch=most)


def adapt(config: SimConfig, budget: float | None = None, overdue: tuple[float, float] | None = None) -> SimConfig:
    """``config`` with what the network of its engine sets.

    ``budget``: tokens of an iteration, in `continuous`; ``overdue``: both factors of the overdue queue, in `batch`.
    """
    if config.engine == "continuous":
        return adapt_continuous(config, budget)
    if budget is not None:
        raise ValueError(f"budget={budget:g} belongs to the engine 'continuous': drop it, or give engine='continuous'.")
    return adapt_batch(config, *(overdue or ()))
