"""What a schedule costs: GPU-hours, and with a price per GPU-hour the money for tokens and for requests in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmsched.eval.report.tables import Column, Table

HOUR_S = 3600.0
MILLION, THOUSAND = 1e6, 1e3


def cost_of(gpus: int, per_second: float, amount: float, price: float | None = None) -> float:
    """GPU-hours, or with a ``price`` per GPU-hour the money, for ``amount`` of what comes ``per_second``; inf: never
    comes."""
    if not per_second > 0:
        return math.inf
    return gpus * amount / per_second / HOUR_S * (1.0 if price is None else price)


def costs(summary: Mapping[str, Any], gpus: int, price: float | None) -> dict[str, Any]:
    """Keys of a policy's summary: ``gpus``, ``gpu_hours`` of a run on average, and with a price the money.

    The rates of the summary are means over seeds, and so is the run.
    """
    found: dict[str, Any] = {"gpus": gpus, "gpu_hours": gpus * summary["duration_s"] / HOUR_S}
    if price is not None:
        found["price_per_gpu_hour"] = price
        found["cost_per_million_output_tokens"] = cost_of(gpus, summary["output_throughput"], MILLION, price)
        found["cost_per_thousand_in_time"] = cost_of(gpus, summary["request_goodput"], THOUSAND, price)
    return found


COLUMNS = (
    Column("gpus", "GPUs", digits=0),
    Column("gpu_hours", "GPU-hours", "a run", 2),
    Column("cost_per_million_output_tokens", "10^6 output tokens", "money", 3),
    Column("cost_per_thousand_in_time", "10^3 requests in time", "money", 3),
)


def cost_table(summaries: Sequence[Mapping[str, Any]], price: float) -> Table:
    """A row per policy whose summary has ``costs`` with a price."""
    rows = [{"policy": s["policy"]} | {column.key: s[column.key] for column in COLUMNS} for s in summaries]
    title = f"Cost at {price:g} per GPU-hour, idle time included"
    return Table("cost", title, [Column("policy", "policy"), *COLUMNS], rows)


def cost_line(summaries: Sequence[Mapping[str, Any]]) -> str:
    """GPUs and GPU-hours of all policies in a line; -: no request was served."""
    spent = [(summary["policy"], summary["gpu_hours"]) for summary in summaries]
    hours = [f"{policy} {'-' if math.isnan(number) else format(number, '.3g')}" for policy, number in spent]
    return f"{summaries[0]['gpus']} GPUs; GPU-hours of a run: {', '.join(hours)} (--price X adds money)."
