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
    arrived = np.maximum(rows["next_arrival"], 1)
    return {
        "completed": rows["completed"],
        "rejected": rows["rejected"],
        "dropped": rows["dropped"],
        "unfinished": rows["waiting"].astype(np.int64) + rows["in_service"],
        "preempted": rows["preempted"],
        "slo_attainment": rows["met"] / arrived,
        "mean_e2e_s": rows["holding"] / arrived,
        "decisions": rows["decisions"],
    }
