"""Engine `continuous`: what it asks of a configuration, and the object by which the rest of the project knows it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.constants import BLOCK_TOKENS, IN_SERVICE, RESIDUAL, ROUTINGS
from llmsched_env.engines.engine import Engine
from llmsched_env.options.presets import against_cache
from llmsched_env.options.table import check_no_other_engine
from llmsched_env.options.words import VICTIMS

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
    if config.continuous.prefill != "first" and config.continuous.token_budget < config.max_batch:
        raise ValueError(
            f"token_budget={config.continuous.token_budget:g} is less than max_batch={config.max_batch}, so decoding "
            "alone could use it up: give at least as many tokens, or a smaller max_batch."
        )
    check_rules(config)


def check_rules(config: SimConfig) -> None:
    """``ValueError`` for rules that exclude each other."""
    rules, queueing = config.continuous, config.queueing
    if rules.prefill == "first" and math.isfinite(rules.max_chunk):
        raise ValueError(f"max_chunk={rules.max_chunk:g} does not go with prefill='first': give prefill='chunked'.")
    if queueing.discipline == "oracle-srpt":
        for name, usual in (("max_chunk", math.inf), ("victim", "newest"), ("returned", "first")):
            if getattr(rules, name) != usual:
                raise ValueError(
                    f"{name}={getattr(rules, name)!r} does not go with discipline='oracle-srpt': drop one."
                )
        if rules.admission == "chunk":
            raise ValueError("admission='chunk' does not go with discipline='oracle-srpt': give admission='prompt'.")
    if rules.returned == "ordered" and not queueing.keyed:
        raise ValueError("returned='ordered' needs an order: give a discipline other than fifo, or class_priority.")
    if rules.returned == "ordered" and queueing.overdue_factor is not None:
        raise ValueError("returned='ordered' does not go with overdue_factor: drop one.")


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
    ordered = RESIDUAL if config.queueing.discipline == "sjf" else 1
    return {
        "by_prompt": rules.admission != "predicted",
        "by_chunk": rules.admission == "chunk",
        "prefill_first": rules.prefill == "first",
        "whole": rules.prefill == "whole",
        "max_chunk": rules.max_chunk,
        "victim": VICTIMS.index(rules.victim),
        "ordered": ordered if rules.returned == "ordered" else 0,
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
