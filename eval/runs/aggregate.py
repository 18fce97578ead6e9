"""From runs to summaries: one dictionary per policy, over seeds, with differences from the first policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmsched.eval.runs.intervals import Interval, interval, paired_interval
from llmsched.eval.runs.outcome import Outcome
from llmsched_env.simulation.metrics import CACHE_COUNTS, CACHE_KEYS, COUNTS, KEYS

SUMMED = (*COUNTS, "wall_s")
"""Keys that are summed over seeds."""

PER_BIN = ("per_bin", "worst_bin", "worst_bin_miss_rate", "per_class")

AVERAGED = tuple(key for key in KEYS if key not in SUMMED and key not in PER_BIN)
"""Keys that are averaged over seeds and have intervals."""


def by_policy(outcomes: Sequence[Outcome], policies: Sequence[str]) -> dict[str, list[Outcome]]:
    """Outcomes of each policy, in the order of ``policies`` and of the seeds; policies without a run are left out."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.seed)
    grouped = {policy: [outcome for outcome in ordered if outcome.policy == policy] for policy in policies}
    return {policy: found for policy, found in grouped.items() if found}


def policy_summary(policy: str, runs: Sequence[Outcome], baseline: Sequence[Outcome] | None) -> dict[str, Any]:
    """The summary of one policy: counts and ``wall_s`` summed over seeds, the rest averaged.

    ``ci95`` has the half width of the 95 % interval of every averaged key, None with a single seed.
    ``paired`` has, per averaged key, the mean difference from ``baseline`` over common seeds and its half
    width; it is empty where ``baseline`` is None (for the first policy itself).
    """
    found: dict[str, Any] = {"policy": policy, "seeds": [run.seed for run in runs]}
    averaged = (*AVERAGED, *(key for key in CACHE_KEYS[:1] if key in runs[0].summary))
    for key in (*SUMMED, *(key for key in CACHE_COUNTS if key in runs[0].summary)):
        found[key] = math.fsum(run.summary[key] for run in runs) if key == "wall_s" else _total(runs, key)
    spread = {key: interval([run.summary[key] for run in runs]) for key in averaged}
    found |= {key: spread[key].mean for key in averaged}
    found |= _bins(runs) | _classes(runs)
    found["ci95"] = {key: spread[key].half for key in averaged}
    found["paired"] = {}
    if baseline is not None:
        for key in averaged:
            gap = paired_interval(_by_seed(runs, key), _by_seed(baseline, key))
            found["paired"][key] = {"difference": gap.mean, "ci95": gap.half}
    return found


def policy_summaries(outcomes: Sequence[Outcome], policies: Sequence[str]) -> list[dict[str, Any]]:
    """Summaries of all policies that have a run, in order; the first of ``policies`` is the baseline."""
    grouped = by_policy(outcomes, policies)
    baseline = grouped.get(policies[0], [])
    return [
        policy_summary(policy, runs, None if policy == policies[0] else baseline) for policy, runs in grouped.items()
    ]


def difference(summary: Mapping[str, Any], key: str) -> Interval | None:
    """The paired difference of one key from the first policy, None for the first itself."""
    gap = summary["paired"].get(key)
    return None if gap is None else Interval(gap["difference"], gap["ci95"])


def _by_seed(runs: Sequence[Outcome], key: str) -> dict[int, float]:
    return {run.seed: float(run.summary[key]) for run in runs}


def _total(runs: Sequence[Outcome], key: str) -> int:
    return sum(int(run.summary[key]) for run in runs)


def _bins(runs: Sequence[Outcome]) -> dict[str, Any]:
    """Counts by bin summed over seeds, their miss rates, and the bin with the highest one."""
    rows = []
    for k in range(len(runs[0].summary["per_bin"])):
        submitted, misses = (sum(run.summary["per_bin"][k][name] for run in runs) for name in ("submitted", "misses"))
        rate = misses / submitted if submitted else math.nan
        rows.append({"bin": k, "submitted": submitted, "misses": misses, "miss_rate": rate})
    used = [row for row in rows if row["submitted"]]
    worst = max(used, key=lambda row: row["miss_rate"], default={"bin": 0, "miss_rate": math.nan})
    return {"per_bin": rows, "worst_bin": worst["bin"], "worst_bin_miss_rate": worst["miss_rate"]}


def _classes(runs: Sequence[Outcome]) -> dict[str, Any]:
    """By SLO class: counts summed over seeds, the rest averaged, and ``ci95`` of what is averaged."""
    found = []
    for entries in zip(*(run.summary["per_class"] for run in runs), strict=True):
        row: dict[str, Any] = {"class": entries[0]["class"], "ci95": {}}
        for key, first in entries[0].items():
            values = [entry[key] for entry in entries]
            if isinstance(first, int):
                row[key] = sum(values)
            elif isinstance(first, float):
                spread = interval(values)
                row[key], row["ci95"][key] = spread.mean, spread.half
        found.append(row)
    return {"per_class": found}
