"""Engine `continuous`: what it asks of a configuration, and the object by which the rest of the project knows it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.constants import BLOCK_TOKENS, IN_SERVICE, ROUTINGS
from llmsched_env.engines.engine import Engine
from llmsched_env.options.presets import against_cache
from llmsched_env.options.table import check_no_other_engine

if TYPE_CHECKING:
    from llmsched_env.config import SimConfig

RUNNING = (
    ("running", "members of the asked server's running set", "share of max_batch", "linear"),
    ("decoding", "... whose prompt is prefilled", "share of max_batch", "linear"),
    ("kv_used", "KV memory that they take in the next iteration", "share of capacity", "linear"),
    ("prefill_left", "prompt tokens of its members that are still to be prefilled", "tokens", "log2(1 + x) / 20"),
)
"""Entries of the observation that only this engine has: (name, meaning, unit, scale)."""

CACHED = (
    ("cache_hit_rate", "tokens found in the asked server's prefix cache, of those looked up so far", "share", "linear"),
    ("kv_kept", "KV memory that no member uses and that can be found again", "share of capacity", "linear"),
    ("head_cached", "tokens of the first request of `any` that the cache holds", "share of its prompt", "linear"),
)
"""Entries that follow them where there is a prefix cache."""


def check(config: SimConfig) -> None:
    """``ValueError`` for what only another engine can do, and for a memory or a budget that is too small."""
    check_no_other_engine("queueing", config.queueing, "continuous")
    if config.controller.kind == "peer":
        raise ValueError("controller='peer' belongs to the engine 'batch': give controller='paper'.")
    for server in config.servers:
        if server.profile.form == "batch-length":
            raise ValueError(
                f"profile {server.profile.name!r} has the form 'batch-length', which knows no iterations: "
                "give one of the form 'split', 'affine' or 'tokens', or engine='batch'."
            )
        if server.eta < BLOCK_TOKENS:
            raise ValueError(f"kv_tokens={server.eta:g} is less than a block: give at least {BLOCK_TOKENS}.")
    reason = against_cache((server.eta for server in config.servers), config.queueing.discipline)
    if config.continuous.prefix_cache == "on" and reason:
        raise ValueError(f"prefix_cache='on' {reason}.")
    if config.continuous.prefill == "chunked" and config.continuous.token_budget < config.max_batch:
        raise ValueError(
            f"token_budget={config.continuous.token_budget:g} is less than max_batch={config.max_batch}, so decoding "
            "alone could use it up: give at least as many tokens, or a smaller max_batch."
        )


def usable_tokens(eta: float) -> float:
    """Whole blocks of the KV memory."""
    return eta if math.isinf(eta) else float(eta // BLOCK_TOKENS * BLOCK_TOKENS)


def groups(config: SimConfig) -> int:
    """One set of bins, or one per server where arrivals are sent to a server."""
    return 1 if config.continuous.routing == "pull" else len(config.servers)


def set_size(config: SimConfig) -> int:
    """Members of the largest running set."""
    return config.max_batch


def blocks(config: SimConfig) -> int:
    """Blocks of the largest prefix cache; 0: there is none."""
    if config.continuous.prefix_cache == "off":
        return 0
    return int(max(server.eta for server in config.servers) // BLOCK_TOKENS)


def parameters(config: SimConfig) -> dict[str, Any]:
    """The options `continuous` as fields of layout.PARAMS."""
    rules = config.continuous
    return {
        "by_prompt": rules.admission == "prompt",
        "prefill_first": rules.prefill == "first",
        "ahead": rules.scheduling == "async",
        "cached": rules.prefix_cache == "on",
        "routing": ROUTINGS.index(rules.routing),
        "load_age": rules.load_age_s,
        "token_budget": rules.token_budget,
        "watermark": rules.watermark,
        "window": rules.window_s,
    }


def in_service(rows: NDArray, servers: NDArray) -> NDArray[np.bool_]:
    """Members of running sets: their status says so."""
    return rows["status"] == IN_SERVICE


ENGINE = Engine(
    name="continuous",
    env_id="LLMSchedContinuous-v0",
    log_rows=8,
    logs_batches=False,
    asks_busy=True,
    routes=True,
    stamps_ahead=False,
    entries=RUNNING,
    cache_entries=CACHED,
    check=check,
    usable_tokens=usable_tokens,
    groups=groups,
    set_size=set_size,
    blocks=blocks,
    parameters=parameters,
    in_service=in_service,
)
