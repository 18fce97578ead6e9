"""The instants of the periodic timer, the same in both oracles (docs/reference/semantics.md, Timers)."""

from __future__ import annotations

import math


def next_tick(tick_s: float, now: float) -> float:
    """The first multiple of ``tick_s`` after ``now``, in seconds."""
    k = max(0, math.floor(now / tick_s) - 1)
    while k * tick_s <= now:
        k += 1
    return k * tick_s


def is_tick(tick_s: float, now: float) -> bool:
    """Whether ``now`` is a multiple of ``tick_s``; never where that is infinite."""
    return math.isfinite(tick_s) and round(now / tick_s) * tick_s == now
