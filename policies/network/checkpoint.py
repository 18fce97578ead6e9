"""Checkpoints of the policy `network`: the files that its weights are kept in.

A checkpoint is two files of one name.  ``NAME.npz`` holds plain arrays, which are loaded without pickle.  ``NAME.json``
says what they are for (engine, and the layout of inputs and actions), how they came about (package version, command,
whatever the trainer adds) and what they hash to.  Nothing in either file runs code.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import llmsched_env
from llmsched.policies.network.layouts import LAYOUTS, Arrays

FORMAT = "llmsched-policy/v1"
"""Format of the JSON, its first field."""

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
    stem.parent.mkdir(parents=True, exist_ok=True)
    np.savez(stem.with_name(stem.name + ".npz"), **kept)  # type: ignore[arg-type]
    stem.with_name(stem.name + ".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


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
    layout = LAYOUTS.get(about.get("engine", "batch"))
    if layout is None:
        raise ValueError(f"{stem}.json: engine {about['engine']!r} is not known: give one for {' or '.join(LAYOUTS)}.")
    _check_layout(stem, about.get("layout", {}), layout.description)
    arrays = _arrays(stem)
    hidden = about.get("hidden")
    wanted = layout.shapes(hidden) if isinstance(hidden, int) and hidden > 0 else {}
    found = {name: array.shape for name, array in arrays.items()}
    if not wanted or found != wanted or any(array.dtype != np.float64 for array in arrays.values()):
        raise ValueError(
            f"{stem}.npz: its arrays are not those of a network of {hidden} hidden units: export it again."
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
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path}: there is no such checkpoint. Give one that train/search.py or train/ppo.py wrote."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no JSON object: give the .json of a checkpoint.")
    return found


def _arrays(stem: Path) -> dict[str, NDArray]:
    path = stem.with_name(stem.name + ".npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: the weights are missing: put the .npz beside the .json.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as plain arrays ({' '.join(str(error).split())}).") from None


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
