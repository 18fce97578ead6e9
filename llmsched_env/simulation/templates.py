"""The rows of a lane before its first event, made from a configuration."""

from __future__ import annotations

import math
import warnings
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from llmsched_env import engines
from llmsched_env.compiler.parts import plain
from llmsched_env.config import SimConfig
from llmsched_env.core import layout
from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.core.controllers import reset_controller
from llmsched_env.core.state import records
from llmsched_env.profiles import FORMS, Profile


def step_s(server, batch: int, kv_tokens: float) -> float:
    """Seconds of one decode step of ``batch`` sequences with ``kv_tokens`` in the cache on a config.Server."""
    return server.profile.decode_step_ms(batch, kv_tokens) / 1000.0


def safe_tbt_s(config: SimConfig) -> float:
    """D of the SLA controller: the one asked for, or with a warning the smallest with D - eps >= tau(1).

    tau(1) is the step of a batch of one with an empty cache (docs/reference/semantics.md has its use).
    """
    asked = config.tbt_s
    least = max(step_s(server, 1, 0.0) for server in config.servers) + config.controller.eps_s
    if config.controller.kind == "paper" and asked < least:
        warnings.warn(
            f"target time between tokens {asked * 1e3:g} ms is refused: a batch of one takes "
            f"{(least - config.controller.eps_s) * 1e3:.4g} ms, so the controller could hold a small batch for ever; "
            f"{least * 1e3:.4g} ms is used. Give a tpot (or tbt) well above that.",
            stacklevel=3,
        )
        return least
    return asked


def param_row(config: SimConfig, track: bool) -> NDArray:
    """The PARAMS row (1,); ``track``: rewards and deadlines are accounted."""
    engine, controller, queueing = engines.get(config.engine), config.controller, config.queueing
    params = records(np.zeros(1, layout.PARAMS))
    values = {
        "num_bins": queueing.num_bins,
        "rows": queueing.num_queues,
        "num_servers": len(config.servers),
        "max_batch": config.max_batch,
        "groups": config.groups,
        "keyed": queueing.keyed,
        "preemptive": queueing.discipline == "oracle-srpt",
        "has_overdue": queueing.has_overdue,
        "refuses_overdue": queueing.refuses_overdue,
        "overdue_factor": queueing.overdue_factor or 0.0,
        "overdue_batch_factor": queueing.overdue_batch_factor or 0.0,
        "gated": queueing.queue_cap is not None or math.isfinite(queueing.accept_rate),
        "exits": math.isfinite(queueing.patience_s) or queueing.refuses_overdue,
        "patience": queueing.patience_s,
        "queue_cap": queueing.queue_cap or 0,
        "accept_rate": queueing.accept_rate,
        "accept_burst": queueing.accept_burst,
        "refusals": queueing.refusals == "on",
        "max_tokens": queueing.max_tokens,
        "max_wait": queueing.max_wait_s,
        "hold": queueing.hold_s,
        "tick": queueing.tick_s,
        "release_own": config.release == "own",
        "track": track,
        "max_eta": config.max_eta,
        "overhead": config.overhead_s,
        "horizon": config.horizon_s,
        "tbt": safe_tbt_s(config),
        "eps": controller.eps_s,
        "alpha": controller.alpha,
        "delta": controller.delta,
        "b_min": controller.b_min,
        "theta": NormalDist().inv_cdf(1.0 - controller.eps_memory),
        "ema": controller.ema,
        "eta_min": min(config.usable_eta(server) for server in config.servers),
        "peer": controller.kind == "peer",
        "asks_busy": engine.asks_busy,
        "stamps_ahead": engine.stamps_ahead,
        **engine.parameters(config),
    }
    for name, value in values.items():
        params[name] = value
    return params


def lane_row(config: SimConfig) -> NDArray:
    """The LANE row (1,) before the first event."""
    lane = records(np.zeros(1, layout.LANE))
    lane["asked"] = layout.NONE
    for name in ("asked", "placed", "last"):
        lane["router"][name] = layout.NONE
    lane["router"]["read_at"] = math.nan
    lane["free"] = len(config.servers)
    lane["bucket"] = config.queueing.accept_burst
    for name in ("last_arrival", "gap_fast", "gap_slow"):
        lane[name] = math.nan
    return lane


def bin_rows(config: SimConfig, params: NDArray) -> NDArray:
    """The BIN rows (groups x queues + 1,): empty queues, controllers that have seen nothing."""
    bins = records(np.zeros(config.groups * config.queueing.num_queues + 1, layout.BIN))
    for name in ("head", "tail", "last_preempted"):
        bins[name] = layout.NONE
    plain(reset_controller)(params.view(np.recarray)[0], bins.view(np.recarray)[0])
    bins[1:] = bins[0]
    return bins


def pool_rows(config: SimConfig) -> NDArray:
    """The POOL rows (servers,): no block was ever used."""
    rows = np.zeros(len(config.servers), layout.POOL)
    rows["total"] = rows["free"] = [config.usable_eta(server) // BLOCK_TOKENS for server in config.servers]
    for name in ("spare", "oldest", "newest", "head", "tail", "lacked", "wanted"):
        rows[name] = layout.NONE
    return rows


def slo_rows(config: SimConfig) -> NDArray:
    """The SLO_ROW rows (classes,)."""
    slos = np.zeros(len(config.slos), layout.SLO_ROW)
    for row, slo in zip(slos, config.server_slos, strict=True):
        row["ttft"], row["tpot"], row["e2e"] = slo.ttft_s, slo.tpot_s, slo.e2e_s
    return slos


def write_profile(row: NDArray | np.void, profile: Profile) -> None:
    """Put the latency law of ``profile`` into a HARDWARE row, in seconds."""
    row["form"] = FORMS.index(profile.form)
    row["total_length"] = profile.length == "total"
    row["noise_sigma"] = profile.noise_sigma
    numbers = profile.numbers(1e-3)
    row["c"][: len(numbers)] = numbers


def hardware_rows(config: SimConfig) -> NDArray:
    """The HARDWARE rows (servers,)."""
    rows = records(np.zeros(len(config.servers), layout.HARDWARE))
    for row, server in zip(rows, config.servers, strict=True):
        write_profile(row, server.profile)
        row["eta"] = config.usable_eta(server)
        row["capacity"] = row["eta"] / BLOCK_TOKENS
    return rows


def server_rows(config: SimConfig) -> NDArray:
    """The SERVER rows (servers,): all idle."""
    rows = np.zeros(len(config.servers), layout.SERVER)
    for name in ("next_event", "end", "predicted_end"):
        rows[name] = math.inf
    for name in ("number", "drop", "preempted_head", "preempted_tail"):
        rows["batch"][name] = layout.NONE
    rows["set"]["most"] = math.inf
    for name in ("prefill_head", "prefill_tail", "fresh"):
        rows["set"][name] = layout.NONE
    rows["set"]["low"], rows["set"]["high"] = config.controller.b_min, config.max_batch
    return rows
