"""The tables of a result, as they are printed and stand on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmsched.eval.reality.carry_over.agreement import (
    MEASURED,
    OWN_SPEED,
    PREDICTED,
    Error,
    difference,
    gain,
    ranks,
    relative_error,
    values,
)
from llmsched.eval.reality.carry_over.plan import NETWORK, Bars
from llmsched.eval.report.tables import Column, Table, Value
from llmsched.eval.runs.intervals import interval

LATENCIES = {
    "p50_e2e_s": "E2E p50",
    "p95_e2e_s": "E2E p95",
    "p50_ttft_s": "TTFT p50",
    "p95_ttft_s": "TTFT p95",
}
COMPARED = {
    "mean_e2e_s": ("E2E mean", "s", 1.0, 3),
    "p95_ttft_s": ("TTFT p95", "ms", 1e3, 0),
    "slo_attainment": ("SLO met", "points", 100.0, 1),
}
"""Metrics of the differences: title, unit, factor, digits."""

RANKED = {"mean_e2e_s": "E2E mean", "p95_e2e_s": "E2E p95", "p95_ttft_s": "TTFT p95", "slo_attainment": "SLO met"}


def tables(document: Mapping[str, Any]) -> list[Table]:
    """All tables of a result."""
    loads = document["plan"]["loads"]
    return [
        verdicts(document),
        *(runs_table(document, load) for load in loads),
        errors_table(document),
        differences_table(document),
        ranks_table(document),
        gain_table(document),
        machine_table(document),
    ]


def bars_of(document: Mapping[str, Any]) -> Bars:
    """The bars that were set before the run."""
    return Bars(**document["plan"]["bars"])


def runs_table(document: Mapping[str, Any], load: float) -> Table:
    """Measured and predicted metrics of every policy at a load."""
    columns = [Column("policy", "policy")]
    shown = {"slo_attainment": ("SLO met", "%", 100.0, 1), **{k: (t, "s", 1.0, 3) for k, t in LATENCIES.items()}}
    for key, (title, unit, factor, digits) in shown.items():
        columns.append(Column(f"{key}_measured", f"{title}, measured", unit, digits, factor))
        columns.append(Column(f"{key}_predicted", "predicted", unit, digits, factor))
    rows: list[dict[str, Value]] = []
    for policy in document["plan"]["policies"]:
        row: dict[str, Value] = {"policy": policy}
        for key in shown:
            row[f"{key}_measured"] = interval(list(values(document, MEASURED, policy, load, key).values()))
            row[f"{key}_predicted"] = interval(list(values(document, PREDICTED, policy, load, key).values())).mean
        rows.append(row)
    note = "Means over repeats, ± 95 % interval of the measured ones; arrivals differ from repeat to repeat."
    return Table(f"load_{load:g}", f"Load {load:g}", columns, rows, note)


def errors_of(document: Mapping[str, Any], load: float, metric: str, which: str = PREDICTED) -> list[Error]:
    """The errors of all policies at a load."""
    return [relative_error(document, policy, load, metric, which) for policy in document["plan"]["policies"]]


def errors_table(document: Mapping[str, Any]) -> Table:
    """Errors of the latencies by load, over the policies."""
    bars, rows = bars_of(document), []
    for load in document["plan"]["loads"]:
        for metric, title in LATENCIES.items():
            found, own = (errors_of(document, load, metric, which) for which in (PREDICTED, OWN_SPEED))
            row: dict[str, Value] = {"load": f"{load:g}", "metric": title}
            row["median"] = float(np.median([abs(e.mean) for e in found]))
            row["worst"] = max((e.mean for e in found), key=abs)
            row["spread"] = float(np.median([e.spread for e in found]))
            row["own"] = float(np.median([abs(e.mean) for e in own]))
            bar = bar_of(metric, bars)
            row["within"] = "-" if bar is None else f"{sum(e.within(bar, bars.spreads) for e in found)} of {len(found)}"
            rows.append(row)
    columns = [
        Column("load", "load"),
        Column("metric", "metric"),
        Column("median", "error, median", "%", 1, 100.0),
        Column("worst", "worst", "%", 1, 100.0, signed=True),
        Column("spread", "spread of repeats", "%", 1, 100.0),
        Column("within", "within the bar"),
        Column("own", "error with each run's own speed", "%", 1, 100.0),
    ]
    note = (
        "Predicted over measured, repeat by repeat with the same arrivals; the median of the absolute errors and the "
        "largest over the policies. Spread: standard deviation of that ratio over the repeats. Last column: the law "
        "times how slow the machine was in the very run, and the client's offset of that run."
    )
    return Table("errors", "Errors of the prediction", columns, rows, note)


def bar_of(metric: str, bars: Bars) -> float | None:
    """The bar of a latency; None where there is none."""
    return {"p50_e2e_s": bars.e2e, "p95_e2e_s": bars.e2e, "p95_ttft_s": bars.ttft_p95}.get(metric)


def differences_table(document: Mapping[str, Any]) -> Table:
    """What every policy differs by from the first, measured and predicted."""
    base, columns = document["plan"]["policies"][0], [Column("load", "load"), Column("policy", "policy")]
    for key, (title, unit, factor, digits) in COMPARED.items():
        for which in (MEASURED, PREDICTED):
            head = f"{title}, {which}" if which == MEASURED else which
            columns.append(Column(f"{key}_{which}", head, unit, digits, factor, signed=True))
    rows: list[dict[str, Value]] = []
    for load in document["plan"]["loads"]:
        for policy in document["plan"]["policies"][1:]:
            row: dict[str, Value] = {"load": f"{load:g}", "policy": policy}
            for key in COMPARED:
                for which in (MEASURED, PREDICTED):
                    row[f"{key}_{which}"] = difference(document, which, policy, base, load, key)
            rows.append(row)
    return Table(
        "differences", f"Difference from {base}", columns, rows, "Paired by repeat: the same requests; ± 95 % interval."
    )


def ranks_table(document: Mapping[str, Any]) -> Table:
    """Whether pairs of policies have the same order in both."""
    rows: list[dict[str, Value]] = []
    for metric, title in RANKED.items():
        found = ranks(document, metric, document["plan"]["loads"])
        rows.append({"metric": title, **{k: getattr(found, k) for k in ("pairs", "measured", "predicted", "both")}})
        own = ranks(document, metric, document["plan"]["loads"], OWN_SPEED)
        rows[-1] |= {"reversed": found.both - found.same, "tau": found.tau, "own": own.tau}
    columns = [
        Column("metric", "metric"),
        Column("pairs", "pairs", digits=0),
        Column("measured", "decided, measured", digits=0),
        Column("predicted", "decided, predicted", digits=0),
        Column("both", "decided in both", digits=0),
        Column("reversed", "of these, reversed", digits=0),
        Column("tau", "Kendall's tau", digits=2),
        Column("own", "tau with each run's own speed", digits=2),
    ]
    note = "All pairs of policies at all loads. Decided: the paired 95 % interval of the difference excludes 0."
    return Table("ranks", "Order of the policies", columns, rows, note)


def gain_table(document: Mapping[str, Any]) -> Table:
    """What the network gains over vLLM's own order."""
    bars, rows = bars_of(document), []
    for load in document["plan"]["loads"]:
        for metric, (title, unit, factor, digits) in COMPARED.items():
            found = gain(document, NETWORK, load, metric)
            show = Column("", "", "", digits, factor, signed=True).show
            row: dict[str, Value] = {"load": f"{load:g}", "metric": f"{title}, {unit}"}
            row |= {"measured": show(found.measured), "predicted": show(found.predicted), "error": found.error}
            base = document["plan"]["policies"][0]
            row["own"] = show(difference(document, OWN_SPEED, NETWORK, base, load, metric))
            rows.append(row | {"carries": "yes" if found.carries(bars) else "no"})
    columns = [
        Column("load", "load"),
        Column("metric", "metric"),
        Column("measured", "gain, measured"),
        Column("predicted", "predicted"),
        Column("error", "error", "%", 0, 100.0, signed=True),
        Column("carries", "carries over"),
        Column("own", "predicted with each run's own speed"),
    ]
    note = (
        f"network less vllm-own, paired by repeat. It carries over where the measured interval excludes 0 and the "
        f"prediction is within {100 * bars.gain:.0f} % of it."
    )
    return Table("gain", "The network's gain over vLLM's own order", columns, rows, note)


def machine_table(document: Mapping[str, Any]) -> Table:
    """How quiet the machine was, by load."""
    rows: list[dict[str, Value]] = []
    most = document["rule"]["most_share"]
    for load in document["plan"]["loads"]:
        own = [run for run in document["runs"] if run["load"] == load]
        gone = [run for run in document["discarded"] if run["load"] == load]
        disturbed = [run["disturbance"] for run in own if run["disturbance"]]
        other = [d["others"] + d["stolen"] for d in disturbed] or [math.nan]
        offsets = [run["offset_ms"] for run in own if run["offset_ms"] is not None] or [math.nan]
        row: dict[str, Value] = {"load": f"{load:g}", "runs": len(own), "discarded": len(gone)}
        row |= {"marked": sum(share > most for share in other), "other": max(other)}
        row |= {"speed": spread_text([run["speed"] for run in own], 2), "offset": spread_text(offsets, 0)}
        row |= {"lag": max(run["measured"]["p99_lag_s"] or 0.0 for run in own)}
        rows.append(row | {"failed": sum(run["measured"]["failed"] > 0 for run in own)})
    columns = [
        Column("load", "load"),
        Column("runs", "runs", digits=0),
        Column("discarded", "discarded", digits=0),
        Column("marked", "not quiet, and count", digits=0),
        Column("other", "others and steal, most", "% of a core", 1, 100.0),
        Column("speed", "steps beside their block's law"),
        Column("offset", "client's offset", "ms"),
        Column("lag", "client lag p99, most", "ms", 1, 1e3),
        Column("failed", "runs with failures", digits=0),
    ]
    return Table("machine", "The machine", columns, rows)


def spread_text(found: Sequence[float], digits: int) -> str:
    """``least to most``."""
    return f"{min(found):.{digits}f} to {max(found):.{digits}f}"


def verdicts(document: Mapping[str, Any]) -> Table:
    """The bars, and whether they are met; beside it what stands there with each run's own speed."""
    bars, loads = bars_of(document), document["plan"]["loads"]
    rows: list[dict[str, Value]] = []

    def add(bar: str, found: tuple[str, bool], own: tuple[str, bool]) -> None:
        """One more bar."""
        rows.append({"bar": bar, "found": found[0], "met": "yes" if found[1] else "no", "own": own[0]})

    for metric in ("p50_e2e_s", "p95_e2e_s", "p95_ttft_s"):
        bar = bar_of(metric, bars)
        words = f"{LATENCIES[metric]} within {100 * (bar or 0.0):.0f} % or {bars.spreads:g} spreads of the repeats"
        add(words, *(_within(document, metric, which) for which in (PREDICTED, OWN_SPEED)))
    for metric in ("mean_e2e_s", "slo_attainment"):
        words = f"tau of {RANKED[metric]} at least {bars.tau:g} over pairs decided in both"
        add(words, *(_order(document, metric, which) for which in (PREDICTED, OWN_SPEED)))
    for metric, (title, *_) in COMPARED.items():
        words = f"the network's gain in {title} decided and predicted within a third"
        carried = [
            [gain(document, NETWORK, load, metric, which).carries(bars) for load in loads]
            for which in (PREDICTED, OWN_SPEED)
        ]
        add(words, *((f"at {_names(loads, each)}", all(each)) for each in carried))
    columns = [Column("bar", "bar"), Column("found", "found"), Column("met", "met")]
    columns += [Column("own", "with each run's own speed")]
    return Table("verdicts", "Bars, set before the run", columns, rows)


def _within(document: Mapping[str, Any], metric: str, which: str) -> tuple[str, bool]:
    """How many predictions of a latency are within its bar, and whether all are."""
    bars, bar = bars_of(document), bar_of(metric, bars_of(document)) or 0.0
    every = [error for load in document["plan"]["loads"] for error in errors_of(document, load, metric, which)]
    good = sum(error.within(bar, bars.spreads) for error in every)
    plain = sum(abs(error.mean) <= bar for error in every)
    return f"{good} of {len(every)} ({plain} within {100 * bar:.0f} %)", good == len(every)


def _order(document: Mapping[str, Any], metric: str, which: str) -> tuple[str, bool]:
    """Kendall's tau of a metric, and whether it meets its bar."""
    found = ranks(document, metric, document["plan"]["loads"], which)
    words = f"{found.tau:.2f} over {found.both} pairs" if found.both else "no such pair"
    return words, found.tau >= bars_of(document).tau


def _names(loads: Sequence[float], chosen: Sequence[bool]) -> str:
    return ", ".join(f"{load:g}" for load, yes in zip(loads, chosen, strict=True) if yes) or "no load"
