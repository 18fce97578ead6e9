"""Parameters, and grids of their values, that several schedulers share."""

from __future__ import annotations

from collections.abc import Mapping

from llmsched.policies.parameters import Number, number, setting
from llmsched_env.options.words import MAX_BATCH_LIMIT

BATCHES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Batch sizes that `auto` tries."""

WAITS_MS = (50, 100, 200, 500, 1000, 2000, 5000)
"""Waiting times (ms) that `auto` tries."""

TBTS_MS = (35, 40, 45, 50, 55, 60, 70, 80, 100, 150)
"""Targets between tokens (ms) that `auto` tries."""

TOKEN_BUDGETS = (256, 320, 384, 512, 768, 1024, 2048, 4096, 8192)
"""Tokens of an iteration that `auto` tries."""


def batch(default: int) -> Number:
    """The parameter of a batch size of at least 1."""
    return setting("max_batch", default, auto=BATCHES)


def batch_or_target() -> Number:
    """The parameter of a batch size; 0 stands for the controllers' target."""
    return number(0, 0, MAX_BATCH_LIMIT, whole=True, auto=(0, *BATCHES))


def wait(default_ms: float) -> Number:
    """The parameter of a waiting time in ms."""
    return number(default_ms, 0.001, 1e9, unit="ms", auto=WAITS_MS)


def tbt() -> Number:
    """The parameter of D, the SLA controller's target between tokens, in ms; none: that of the scenario."""
    return setting("controller.tbt_s", unit="ms", auto=TBTS_MS)


def token_budget() -> Number:
    """The parameter of the tokens of an iteration; none: those of the scenario."""
    return setting("token_budget", auto=TOKEN_BUDGETS)


def set_tbt(params: Mapping[str, float]) -> dict[str, float]:
    """The fields of config.Controller that the parameter ``tbt`` sets."""
    return {"tbt_s": params["tbt"]} if params["tbt"] < float("inf") else {}
