"""Action and observation spaces, and the masks of valid actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmsched_env.core import layout
from llmsched_env.core.view import observation
from llmsched_env.engines.engine import Engine


@dataclass(frozen=True)
class Limits:
    """What actions can choose from: ``max_bins`` bins, `any`, the ``overdue`` queue where there is one; sizes up to
    ``max_batch``.  ``cached``: the observation tells of a prefix cache.  ``refusals``: an action can refuse."""

    max_bins: int
    max_batch: int
    overdue: bool = False
    cached: bool = False
    refusals: bool = False

    @property
    def choices(self) -> int:
        """Choices of an action: the bins, then `any`, then perhaps the overdue queue."""
        return self.max_bins + 1 + self.overdue


def observation_space(limits: Limits, engine: Engine) -> spaces.Box:
    """Box (size,) float32: everything lies in [0, 1], the slacks in [-1, 1]."""
    shared = observation.size(limits.max_bins, limits.overdue)
    own = len(engine.entries) + limits.cached * len(engine.cache_entries)
    low = np.zeros(shared + own, np.float32)
    low[len(observation.GLOBAL) + observation.SLACK : shared : len(observation.PER_BIN)] = -1.0
    return spaces.Box(low, np.float32(1.0), dtype=np.float32)


def ladder(max_batch: int, refusals: bool = False) -> NDArray[np.int64]:
    """Sizes of the Discrete variant for every choice of bin: 1, 2, 4, ..., max_batch, and NONE for the target.

    With ``refusals`` also max_batch + 1, which refuses the first request.
    """
    sizes = [1 << i for i in range(max_batch.bit_length()) if 1 << i < max_batch]
    return np.array([*sizes, max_batch, layout.NONE, *[max_batch + 1] * refusals], np.int64)


def action_sizes(kind: str, limits: Limits) -> list[int]:
    """Number of values of every part of an action."""
    if kind == "ladder":
        return [1 + limits.choices * len(ladder(limits.max_batch, limits.refusals))]
    return [limits.choices, limits.max_batch + 1 + limits.refusals]


def action_space(kind: str, limits: Limits) -> spaces.MultiDiscrete | spaces.Discrete:
    """``multidiscrete``: (choice, size); ``ladder``: wait, then every rung of every choice.

    With refusals the last size, or the last rung of a choice, refuses the first request of the choice.
    """
    sizes = action_sizes(kind, limits)
    return spaces.Discrete(sizes[0]) if kind == "ladder" else spaces.MultiDiscrete(sizes)


def blank_masks(kind: str, lanes: int, limits: Limits) -> NDArray[np.bool_]:
    """Masks in which every action is valid, (lanes, actions)."""
    return np.ones((lanes, sum(action_sizes(kind, limits))), bool)


def action_masks(kind: str, valid: NDArray[np.int8], blank: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Valid actions of N lanes, (N, actions) bool: ``blank`` (`blank_masks`) with what is masked now.

    ``valid`` (N, choices + 1): which choices are valid, then whether waiting is.  ``multidiscrete``: choices and sizes
    side by side (every size is valid with every choice; masked are empty bins, the overdue queue while other requests
    wait, and `wait`, size 0, when no event can come).  ``ladder``: one entry per action.  To refuse is always valid.
    """
    masks = blank.copy()
    if kind == "ladder":
        masks[:, 0] = valid[:, -1]
        n, choices = valid.shape[0], valid.shape[1] - 1
        masks[:, 1:].reshape(n, choices, -1)[:] = valid[:, :-1, None]
    else:
        masks[:, : valid.shape[1]] = valid
    return masks
