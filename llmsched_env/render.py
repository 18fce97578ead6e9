"""Pictures of the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llmsched_env.lanes import Lanes


def draw_ansi(lanes: Lanes) -> str:
    """A few lines of text: the clock, a bar per bin, a letter per server."""
    simulator = lanes.simulator
    lane, bins, servers = simulator.lane[0], simulator.bins[0], simulator.servers[0]
    lines = [f"t {lane['now']:10.2f} s   waiting {lane['waiting']:5d}   misses {lane['misses']:5d}"]
    for k in range(int(lane["num_bins"])):
        length = int(bins[k]["length"])
        lines.append(f"bin {k} |{'#' * min(length, 60):<60}| {length}")
    lines += [f"server {s}: {'free' if np.isinf(row['end']) else 'busy'}" for s, row in enumerate(servers)]
    return "\n".join(lines)


def draw_rgb(lanes: Lanes) -> np.ndarray:
    """(height, width, 3) uint8."""
    return np.zeros((240, 480, 3), np.uint8)
