"""The capacities and the servers needed, as sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmsched.eval.report.tables import Table


def servers_sentence(servers: Table, bar: float, load: str, kept: str, price: float | None) -> str:
    """``multibin: 4 servers (16 GPUs) carry 2.5 requests/s ...; static needs 5.``"""
    rows = [row for row in servers.rows if row["share"] == bar]
    found = [row for row in rows if row.get("servers") is not None]
    never = _names([str(row["policy"]) for row in rows if row.get("servers") is None])
    if not found:
        return f"No number of servers carries {load} {kept}, under {never}: one request alone misses its targets."
    least = min(int(row["servers"]) for row in found)  # type: ignore[arg-type]
    best = [row for row in found if row["servers"] == least]
    others: dict[int, list[str]] = {}
    for row in found:
        if row["servers"] != least:
            others.setdefault(int(row["servers"]), []).append(str(row["policy"]))  # type: ignore[arg-type]
    gpus, hours = int(best[0]["gpus"]), float(best[0]["gpu_hours_a_day"])  # type: ignore[arg-type]
    money = f", {hours * price:,.0f} a day" if price is not None else ""
    parts = [
        f"{_names([str(row['policy']) for row in best])}: {least} server{'s' * (least > 1)} "
        f"({gpus} GPU{'s' * (gpus > 1)}{money}) carr{'ies' * (least == 1) or 'y'} {load} {kept}"
    ]
    parts += [f"{_names(names)} need{'s' * (len(names) == 1)} {count}" for count, names in sorted(others.items())]
    parts += [f"{never} cannot with any number"] if never else []
    return "; ".join(parts) + "."


def rates_sentence(rates: Sequence[tuple[str, float]], have: str, kept: str) -> str:
    """``On 4 servers multibin carries 2.72 requests/s ..., static 1.97.``; (policy, mean of its capacity)."""
    order = sorted(rates, key=lambda pair: pair[1] if math.isfinite(pair[1]) else math.inf, reverse=True)
    shown = [f"{name} {_rate(rate)}" for name, rate in order]
    return f"On {have}, {kept}: {', '.join(shown)}."


def _rate(rate: float) -> str:
    if rate == 0:
        return "no rate"
    return f"{rate:.3g} requests/s" if math.isfinite(rate) else "any rate"


def _names(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
