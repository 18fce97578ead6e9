"""The two files of a checkpoint: NAME.npz, plain arrays that are loaded without pickle, and NAME.json, what they are.

Both are read in bounded work, and nothing in either runs code.  What the JSON has to say: the checkpoints themselves
(network/checkpoint.py, agent/checkpoint.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.arrays import read_arrays
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.writing import make_folder, write_bytes, write_text

MOST_BYTES = 2**26
"""Most bytes of either file."""


def stem_of(path: str | Path) -> Path:
    """``path`` without .npz or .json."""
    given = Path(path).expanduser()
    return given.with_suffix("") if given.suffix in (".npz", ".json") else given


def beside(stem: Path, suffix: str) -> Path:
    """The file of the checkpoint with this suffix; a name may have dots of its own."""
    return stem.with_name(stem.name + suffix)


def digest(arrays: Mapping[str, NDArray[np.float64]]) -> str:
    """SHA-256 of names, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name}{arrays[name].shape}".encode() + np.ascontiguousarray(arrays[name], "<f8").tobytes())
    return found.hexdigest()


def write_files(stem: Path, arrays: Mapping[str, NDArray[np.float64]], document: Mapping[str, Any]) -> None:
    """Write both files, each whole or not at all."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    make_folder(stem.parent)
    write_bytes(beside(stem, ".npz"), content.getvalue())
    write_text(beside(stem, ".json"), json.dumps(document, indent=1) + "\n")


def read_document(stem: Path, *, maker: str, of_zip: str) -> dict[str, Any]:
    """The object of the JSON; ``ValueError`` in one line.

    ``maker``: what writes such a checkpoint; ``of_zip``: what to do with a file of Stable-Baselines3 of this name.
    """
    path = beside(stem, ".json")
    zipped = stem if stem.suffix == ".zip" else beside(stem, ".zip")
    if zipped.is_file() and not path.is_file():
        raise ValueError(f"{zipped} is a file of Stable-Baselines3, which runs code when loaded: {of_zip}.")
    if not os.path.lexists(path):
        raise ValueError(f"{path}: there is no such checkpoint. Give one that {maker} wrote.")
    try:
        found = read_json(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no JSON object: give the .json of a checkpoint.")
    return found


def read_weights(stem: Path) -> dict[str, NDArray]:
    """The arrays of the .npz by name; ``ValueError`` in one line."""
    path = beside(stem, ".npz")
    if not os.path.lexists(path):
        raise ValueError(f"{path}: the weights are missing: put the .npz beside the .json.")
    try:
        return read_arrays(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"{path}: {error}.") from None


def check_weights(stem: Path, arrays: Mapping[str, NDArray], sha256: Any) -> None:
    """``ValueError`` unless the arrays are those that the JSON was written for, and finite."""
    if digest(arrays) != sha256:
        raise ValueError(f"{stem}.npz: its hash is not the one in {stem.name}.json: take both files of one checkpoint.")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(
            f"{stem}.npz: some weights are not finite numbers: training diverged. Use an earlier checkpoint."
        )


def check_layout(stem: Path, layout: Any, known: Mapping[str, Any]) -> None:
    """``ValueError``, with the first difference, unless the ``layout`` of the JSON is the ``known`` one."""
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
