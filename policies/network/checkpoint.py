"""Checkpoints of the policy `network`: the files that its weights are kept in.

A checkpoint is two files of one name.  ``NAME.npz`` holds plain arrays, which are loaded without pickle.  ``NAME.json``
says what they are for (engine, and the layout of inputs and actions), how they came about (package version, command,
whatever the trainer adds) and what they hash to.  Nothing in either file runs code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import llmsched_env
from llmsched.policies.checkpoint_files import (
    check_layout,
    check_weights,
    digest,
    read_document,
    read_weights,
    stem_of,
    write_files,
)
from llmsched.policies.network.layouts import LAYOUTS, Arrays
from llmsched_env.files.showing import shortened

FORMAT = "llmsched-policy/v1"
"""Format of the JSON, its first field."""

MAKER = "train/search.py, train/ppo_grouped.py or train/ppo.py"
OF_ZIP = "give the checkpoint that training wrote beside it (.npz and .json)"

MOST_HIDDEN = 2**16

MOST_FACTOR = 100.0
"""Largest factor of the overdue queue in a checkpoint."""

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = {"batch": WEIGHTS / "network-batch", "continuous": WEIGHTS / "network-continuous"}
"""Shipped checkpoints by engine, without suffix."""

PPO = WEIGHTS / "ppo-batch"
"""The one that gradient training made for the engine `batch`, the policy `ppo`."""

SMALL = WEIGHTS / "network-small"
"""The one for LLMSchedSmall-v0."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights by name, float64, and the fields of the JSON."""

    arrays: Arrays
    about: Mapping[str, Any]

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return len(self.arrays["bias"])

    @property
    def engine(self) -> str:
        """The engine that the network decides in."""
        return str(self.about.get("engine", "batch"))

    @property
    def overdue(self) -> tuple[float, float] | None:
        """The overdue factor and the overdue batch factor that were chosen with the weights; none: the network's."""
        return overdue_of(self.about)

    @property
    def packed(self) -> NDArray[np.float64]:
        """The weights (P,) as the compiled scores read them (layouts.Layout.pack)."""
        return LAYOUTS[self.engine].pack(self.arrays)


def save(path: str | Path, arrays: Mapping[str, NDArray[np.float64]], about: Mapping[str, Any]) -> None:
    """Write ``path``.npz and ``path``.json; ``about`` names at least the ``command`` that trained them, and the
    ``engine`` unless that is `batch`."""
    stem = stem_of(path)
    kept = {name: np.asarray(arrays[name], np.float64) for name in arrays}
    document = {
        "format": FORMAT,
        "package_version": llmsched_env.__version__,
        "hidden": len(kept["bias"]),
        "sha256": digest(kept),
        "layout": LAYOUTS[about.get("engine", "batch")].description,
        **about,
    }
    write_files(stem, kept, document)


def overdue_of(about: Mapping[str, Any], file: str = "checkpoint") -> tuple[float, float] | None:
    """The factors in the JSON ``file`` of a checkpoint, or None; ``ValueError`` where what it has are no factors."""
    found = about.get("overdue_factors")
    if found is None:
        return None
    fits = isinstance(found, list) and len(found) == 2 and all(type(x) in (int, float) for x in found)
    if not fits or not all(0.0 <= x <= MOST_FACTOR for x in found) or about.get("engine", "batch") != "batch":
        raise ValueError(
            f"{file}: overdue_factors {shortened(str(found), 40)!r} is not allowed: give two factors from 0 to "
            f"{MOST_FACTOR:g}, in the engine batch."
        )
    return float(found[0]), float(found[1])


def load_overdue(path: str | Path) -> tuple[float, float] | None:
    """`overdue_of` the checkpoint at ``path``, of which the weights are not read."""
    stem = stem_of(path)
    return overdue_of(read_document(stem, maker=MAKER, of_zip=OF_ZIP), f"{stem}.json")


def load_shipped(engine: str) -> Checkpoint:
    """The checkpoint that is shipped for ``engine``."""
    return load(SHIPPED[engine])


def load(path: str | Path) -> Checkpoint:
    """The checkpoint at ``path``, with or without .npz or .json.

    ``ValueError`` in one line when it is missing, damaged, changed, or made for another layout.
    """
    stem = stem_of(path)
    about = read_document(stem, maker=MAKER, of_zip=OF_ZIP)
    if about.get("format") != FORMAT:
        raise ValueError(f"{stem}.json: format {about.get('format')!r} is not known: give a {FORMAT} checkpoint.")
    engine = about.get("engine", "batch")
    layout = LAYOUTS.get(engine) if isinstance(engine, str) else None
    if layout is None:
        raise ValueError(f"{stem}.json: engine {about['engine']!r} is not known: give one for {' or '.join(LAYOUTS)}.")
    check_layout(stem, about.get("layout", {}), layout.description)
    arrays = read_weights(stem)
    hidden = about.get("hidden")
    wanted = {}
    if isinstance(hidden, int) and not isinstance(hidden, bool) and 0 < hidden <= MOST_HIDDEN:
        wanted = layout.shapes(hidden)
    found = {name: array.shape for name, array in arrays.items()}
    if not wanted or found != wanted or any(array.dtype != np.float64 for array in arrays.values()):
        raise ValueError(
            f"{stem}.npz: its arrays are not those of a network of {shortened(str(hidden), 20)} hidden units: "
            f"export it again."
        )
    check_weights(stem, arrays, about.get("sha256"))
    overdue_of(about, f"{stem}.json")
    return Checkpoint(arrays, about)
