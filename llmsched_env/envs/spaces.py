"""Action and observation spaces, and the masks of valid actions."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmsched_env.core import layout
from llmsched_env.core.view import observation
from llmsched_env.engines.engine import Engine


def observation_space(max_bins: int, engine: Engine) -> spaces.Box:
    """Box (size,) float32: everything lies in [0, 1], the slacks in [-1, 1]."""
    low = np.zeros(observation.size(max_bins) + len(engine.entries), np.float32)
    slack = len(observation.GLOBAL) + observation.SLACK
    low[slack : observation.size(max_bins) : len(observation.PER_BIN)] = -1.0
    return spaces.Box(low, np.float32(1.0), dtype=np.float32)


def ladder(max_batch: int) -> NDArray[np.int64]:
    """Sizes of the Discrete variant for every choice of bin: 1, 2, 4, ..., max_batch, and NONE for the target."""
    sizes = [1 << i for i in range(max_batch.bit_length()) if 1 << i < max_batch]
    return np.array([*sizes, max_batch, layout.NONE], np.int64)


def action_sizes(kind: str, max_bins: int, max_batch: int) -> list[int]:
    """Number of values of every part of an action."""
    if kind == "ladder":
        return [1 + (max_bins + 1) * len(ladder(max_batch))]
    return [max_bins + 1, max_batch + 1]


def action_space(kind: str, max_bins: int, max_batch: int) -> spaces.MultiDiscrete | spaces.Discrete:
    """``multidiscrete``: (bin or any, size); ``ladder``: wait, then every rung of every bin and of any."""
    sizes = action_sizes(kind, max_bins, max_batch)
    return spaces.Discrete(sizes[0]) if kind == "ladder" else spaces.MultiDiscrete(sizes)


def action_masks(kind: str, valid: NDArray[np.int8], max_batch: int) -> NDArray[np.bool_]:
    """Valid actions of N lanes, (N, actions) bool.

    ``valid`` (N, max_bins + 1): which bins have something to serve, then whether waiting is possible.
    ``multidiscrete``: bins and sizes side by side (every size is valid with every bin; a bin that is empty
    and `wait` when no event can come are masked).  ``ladder``: one entry per action.
    """
    n, bins = len(valid), valid.shape[1] - 1
    if kind == "ladder":
        rungs = len(ladder(max_batch))
        masks = np.ones((n, 1 + (bins + 1) * rungs), bool)
        masks[:, 0] = valid[:, -1]
        masks[:, 1 : 1 + bins * rungs].reshape(n, bins, rungs)[:] = valid[:, :-1, None]
        return masks
    masks = np.ones((n, bins + 2 + max_batch), bool)  # `any` and all sizes are always valid
    masks[:, :bins] = valid[:, :-1]
    masks[:, bins + 1] = valid[:, -1]
    return masks
