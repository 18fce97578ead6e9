"""What a run on a real engine is judged by: the metrics of `compare`, from what the client saw.

Every request that was to be sent counts: one that failed, in whatever way, is a miss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmsched.eval.reality.serving.client import Served
from llmsched.eval.runs.client_times import meets, tpot_s
from llmsched_env.config import SLO


def completed(rows: Sequence[Served]) -> NDArray[np.bool_]:
    """Which requests have an answer, whole and without an error, (N,)."""
    return np.array([not row.error and not math.isnan(row.last) for row in rows], bool)


def measures(rows: Sequence[Served], slos: Sequence[SLO], classes: Sequence[int]) -> dict[str, float]:
    """Metrics of a run, seconds and shares; latencies are of completed requests and count from when they were due."""
    done = completed(rows)
    due, first, last = (np.array([getattr(row, name) for row in rows]) for name in ("due", "first", "last"))
    tokens = np.array([row.tokens for row in rows])
    ttft, e2e = first - due, last - due
    tpot = tpot_s(ttft, e2e, tokens)
    met = done & meets(ttft, e2e, tokens, slos, classes)
    gaps = np.concatenate([row.gaps for row in rows if row.gaps]) if any(row.gaps for row in rows) else np.zeros(0)
    lag = np.array([row.sent - row.due for row in rows])
    took = float(np.nanmax(last)) if done.any() else math.inf
    found = {"slo_attainment": float(met.mean()), "failed": float((~done).mean())}
    found |= {"throughput": float(done.sum()) / took, "goodput": float(met.sum()) / took}
    for name, values in (("ttft", ttft[done]), ("e2e", e2e[done]), ("itl", gaps)):
        for label, share in (("p50", 50), ("p95", 95), ("p99", 99)):
            found[f"{label}_{name}_s"] = float(np.percentile(values, share)) if len(values) else math.nan
        found[f"mean_{name}_s"] = float(values.mean()) if len(values) else math.nan
    found["mean_tpot_s"] = float(tpot[done & (tokens > 1)].mean()) if (done & (tokens > 1)).any() else math.nan
    found["p99_lag_s"] = float(np.nanpercentile(lag, 99)) if np.isfinite(lag).any() else math.nan
    return found


def failures(rows: Sequence[Served]) -> str:
    """Why requests failed, with counts; empty: none did."""
    counts = Counter(row.error or "no end" for row, done in zip(rows, completed(rows), strict=True) if not done)
    return ", ".join(f"{count} x {reason}" for reason, count in counts.most_common())
