"""What an episode came to: the metrics that `info` holds at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmsched_env.envs.lanes import Lanes


def episode_metrics(lanes: Lanes, which: Sequence[int]) -> dict[str, NDArray]:
    """Counts of the episodes of some lanes up to now, an entry per lane in every column.

    Over the requests that arrived; those that have not ended did not meet their SLO.
    """
    rows = lanes.simulator.lane[which]
    counts = rows["counts"]
    arrived = np.maximum(rows["next_arrival"], 1)
    cached: dict[str, NDArray] = {}
    if lanes.limits.cached:
        pools = lanes.simulator.arrays.pools[which]
        looked_up = np.maximum(pools["looked_up"].sum(axis=1), 1)
        cached["prefix_cache_hit_rate"] = pools["cached"].sum(axis=1) / looked_up
    lost: dict[str, NDArray] = {}
    if lanes.config.queueing.loses_requests:
        lost = {"refused": counts["refused"], "abandoned": counts["abandoned"]}
    return (
        cached
        | lost
        | {
            "completed": counts["completed"],
            "rejected": counts["rejected"],
            "dropped": counts["dropped"],
            "unfinished": rows["waiting"].astype(np.int64) + rows["in_service"],
            "preempted": counts["preempted"],
            "slo_attainment": counts["met"] / arrived,
            "mean_e2e_s": counts["holding"] / arrived,
            "decisions": counts["decisions"],
        }
    )
