"""What an episode came to: the metrics that `info` holds at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core import layout
from llmsched_env.envs.lanes import Lanes


def episode_metrics(lanes: Lanes, which: Sequence[int]) -> dict[str, NDArray]:
    """Counts of the episodes of some lanes up to now, an entry per lane in every column.

    Over the requests that arrived; what has not ended is a miss.
    """
    rows = lanes.simulator.lane[which]
    arrived = np.maximum(rows["next_arrival"], 1)
    unfinished = rows["waiting"].astype(np.int64) + rows["in_service"]
    misses = rows["misses"].copy()
    for place in np.flatnonzero(unfinished).tolist():
        misses[place] += _spared(lanes, which[place])
    return {
        "completed": rows["completed"],
        "rejected": rows["rejected"],
        "dropped": rows["dropped"],
        "unfinished": unfinished,
        "evicted": rows["evicted"],
        "slo_attainment": 1.0 - misses / arrived,
        "mean_e2e_s": rows["holding"] / arrived,
        "decisions": rows["decisions"],
    }


def _spared(lanes: Lanes, i: int) -> int:
    """Requests in the system of lane ``i`` whose miss has not been charged."""
    servers = lanes.simulator.servers[i]
    rows = lanes.simulator.requests[i, : int(lanes.simulator.lane[i]["next_arrival"])]
    running = servers[servers["batch"] != layout.NONE]
    inside = (rows["status"] == layout.WAITING) | (
        (rows["status"] == layout.IN_SERVICE) & np.isin(rows["batch"], running["batch"])
    )
    marked = int(rows["missed"][inside].sum()) - int(running["tpot_misses"].sum())  # those are charged at completion
    return int(inside.sum()) - marked
