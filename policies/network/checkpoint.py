"""Checkpoints of the policy `network`: the files that its weights are kept in.

A checkpoint is two files of one name.  ``NAME.npz`` holds plain arrays, which are loaded without pickle.  ``NAME.json``
says what they are for (engine, and the layout of inputs and actions), how they came about (package version, command,
whatever the trainer adds) and what they hash to.  Nothing in either file runs code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import llmsched_env
from llmsched.policies.network.layouts import LAYOUTS, Arrays
from llmsched_env.files.arrays import read_arrays
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.showing import shortened
from llmsched_env.files.writing import make_folder, write_bytes, write_text

FORMAT = "llmsched-policy/v1"
"""Format of the JSON, its first field."""

MOST_BYTES = 2**26
"""Most bytes of a checkpoint's file."""

MOST_HIDDEN = 2**16

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = {"batch": WEIGHTS / "network-batch", "continuous": WEIGHTS / "network-continuous"}
"""Shipped checkpoints by engine, without suffix."""

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
    def packed(self) -> NDArray[np.float64]:
        """The weights (P,) as the compiled scores read them (layouts.Layout.pack)."""
        return LAYOUTS[self.engine].pack(self.arrays)


def digest(arrays: Mapping[str, NDArray[np.float64]]) -> str:
    """SHA-256 of names, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name}{arrays[name].shape}".encode() + np.ascontiguousarray(arrays[name], "<f8").tobytes())
    return found.hexdigest()


def save(path: str | Path, arrays: Mapping[str, NDArray[np.float64]], about: Mapping[str, Any]) -> None:
    """Write ``path``.npz and ``path``.json; ``about`` names at least the ``command`` that trained them, and the
    ``engine`` unless that is `batch`."""
    stem = _stem(path)
    kept = {name: np.asarray(arrays[name], np.float64) for name in arrays}
    document = {
        "format": FORMAT,
        "package_version": llmsched_env.__version__,
        "hidden": len(kept["bias"]),
        "sha256": digest(kept),
        "layout": LAYOUTS[about.get("engine", "batch")].description,
        **about,
    }
    content = io.BytesIO()
    np.savez(content, **kept)  # type: ignore[arg-type]
    make_folder(stem.parent)
    write_bytes(stem.with_name(stem.name + ".npz"), content.getvalue())
    write_text(stem.with_name(stem.name + ".json"), json.dumps(document, indent=1) + "\n")


def load_shipped(engine: str) -> Checkpoint:
    """The checkpoint that is shipped for ``engine``."""
    return load(SHIPPED[engine])


def load(path: str | Path) -> Checkpoint:
    """The checkpoint at ``path``, with or without .npz or .json.

    ``ValueError`` in one line when it is missing, damaged, changed, or made for another layout.
    """
    stem = _stem(path)
    about = _document(stem)
    if about.get("format") != FORMAT:
        raise ValueError(f"{stem}.json: format {about.get('format')!r} is not known: give a {FORMAT} checkpoint.")
    engine = about.get("engine", "batch")
    layout = LAYOUTS.get(engine) if isinstance(engine, str) else None
    if layout is None:
        raise ValueError(f"{stem}.json: engine {about['engine']!r} is not known: give one for {' or '.join(LAYOUTS)}.")
    _check_layout(stem, about.get("layout", {}), layout.description)
    arrays = _arrays(stem)
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
    if digest(arrays) != about.get("sha256"):
        raise ValueError(f"{stem}.npz: its hash is not the one in {stem.name}.json: take both files of one checkpoint.")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(
            f"{stem}.npz: some weights are not finite numbers: training diverged. Use an earlier checkpoint."
        )
    return Checkpoint(arrays, about)


def _stem(path: str | Path) -> Path:
    given = Path(path).expanduser()
    return given.with_suffix("") if given.suffix in (".npz", ".json") else given


def _document(stem: Path) -> dict[str, Any]:
    path = stem.with_name(stem.name + ".json")
    if path.with_suffix(".zip").is_file() and not path.is_file():
        raise ValueError(
            f"{path.with_suffix('.zip')} is a file of Stable-Baselines3, which runs code when loaded: give the "
            f"checkpoint that training wrote beside it (.npz and .json)."
        )
    if not os.path.lexists(path):
        raise ValueError(f"{path}: there is no such checkpoint. Give one that train/search.py or train/ppo.py wrote.")
    try:
        found = read_json(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no JSON object: give the .json of a checkpoint.")
    return found


def _arrays(stem: Path) -> dict[str, NDArray]:
    path = stem.with_name(stem.name + ".npz")
    if not os.path.lexists(path):
        raise ValueError(f"{path}: the weights are missing: put the .npz beside the .json.")
    try:
        return read_arrays(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"{path}: {error}.") from None


def _check_layout(stem: Path, layout: Any, known: Mapping[str, Any]) -> None:
    for part, wanted in known.items():
        given = layout.get(part) if isinstance(layout, dict) else None
        if given != wanted:
            raise ValueError(
                f"{stem}.json: made for another layout, {_difference(part, given, wanted)}: train it again."
            )


def _difference(part: str, given: Any, wanted: Any) -> str:
    if not isinstance(given, list) or not isinstance(wanted, list):
        return f"its {part} are {given!r}, here they are {wanted!r}"
    if len(given) != len(wanted):
        return f"its {part} has {len(given)} entries, here there are {len(wanted)}"
    place = next(i for i, (a, b) in enumerate(zip(given, wanted, strict=True)) if a != b)
    return f"entry {place} of its {part} is {given[place]!r}, here {wanted[place]!r}"
