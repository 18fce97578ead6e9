"""The random streams of a run: one per purpose, all from one seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SPLITS = ("test", "validation", "calibration")
"""Independent worlds of the same seed: results, choices of parameters, bin edges."""

STREAMS = ("arrivals", "lengths", "predictions", "classes", "noise", "policy", "prefixes", "think", "routing")


def streams(seed: int, split: str = "test") -> Mapping[str, np.random.Generator]:
    """Fresh generators by name (``STREAMS``), independent of each other and of every other (seed, split).

    Raises ``ValueError`` for a seed that is not a whole number of at least 0, or an unknown split.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed={seed!r} is not allowed: give a whole number of at least 0.")
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not known: choose one of {', '.join(SPLITS)}.")
    root = np.random.SeedSequence(int(seed), spawn_key=(SPLITS.index(split),))
    return {name: np.random.default_rng(child) for name, child in zip(STREAMS, root.spawn(len(STREAMS)), strict=True)}
