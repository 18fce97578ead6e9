"""Weights of a learned scheduler: what they must look like, and the files that they are kept in.

A checkpoint is two files of one name: ``NAME.npz``, plain arrays that are loaded without pickle, and ``NAME.json``,
which says what they are for (the layout of observation and actions), how they came about (package version, command,
whatever the trainer adds) and what they hash to.  Nothing in either runs code.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import llmsched_env
from llmsched.policies.network import layouts
from llmsched_env.core.view.observation import GLOBAL, PER_BIN

FORMAT = "llmsched-policy/v1"
SHIPPED = Path(__file__).parent / "weights" / "ppo-batch"
SHIPPED_FOR = {"batch": SHIPPED, "continuous": SHIPPED.with_name("ppo-continuous")}
"""By engine."""

SHARED, OWN = len(GLOBAL), len(PER_BIN)

DERIVED = (
    "on_time",  # share of the waiting requests that a full batch launched now would serve in time
    "hits_per_time",  # ... their number per T of service, log2(1 + x) / 10
    "batch",  # requests in a full batch, log2(1 + x) / 7
    "time_per_request",  # service time of a full batch / its requests, in % of T, log2(1 + x) / 10
    "slack_near",  # slack in T, from -1 to 1
    "due",  # 1 when the slack is gone, 0 from 0.2 T on (logistic)
    "due_soon",  # the same around 0.3 T, softer
    "share",  # of all that waits
    "any",  # 1 for the choice `any`
)
"""What is computed of every choice from its entries of the observation (T: the SLO's deadline)."""

SIZED = (
    "part",  # share of the waiting requests of that choice
    "size",  # log2 / 7
    "all",  # 1 when nothing is left behind
    "target",  # 1 for the controllers' target
    "on_time",  # share of these that would be in time; half of a full batch's time is taken to be a fixed price
    "hits_per_time",  # their number per T of service, log2(1 + x) / 10
    "hits",  # their number, log2(1 + x) / 7
    "time",  # the service time by that assumption, x / (x + T)
)
"""What is computed of every batch size of a choice."""

CHOICE = OWN + len(DERIVED)
CONTEXT = SHARED + 2 * CHOICE
"""Entries that exist once, then the largest and the mean of every bin's, over the bins that hold something."""

LAYOUT: dict[str, Any] = {
    "global": [f"{name} [{unit}] {scale}" for name, _, unit, scale in GLOBAL],
    "per_bin": [f"{name} [{unit}] {scale}" for name, _, unit, scale in PER_BIN],
    "derived": list(DERIVED),
    "sized": list(SIZED),
    "actions": "wait; then for every bin and for any: 1, 2, 4, ... below max_batch, max_batch, target",
}
"""What the weights are multiplied with and what the scores mean; a checkpoint of another layout is refused."""


def shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a network with so many hidden units, in the order in which they are packed."""
    return {
        "bias": (hidden,),  # hidden layer of a (choice, size)
        "context": (hidden, CONTEXT),
        "choice": (hidden, CHOICE),
        "size": (hidden, len(SIZED)),
        "out": (hidden,),
        "straight": (CHOICE + len(SIZED),),  # past the hidden layer
        "wait_bias": (hidden,),  # hidden layer of waiting
        "wait_context": (hidden, CONTEXT),
        "wait_out": (hidden,),
        "wait_straight": (CONTEXT,),
        "wait_offset": (1,),
    }


@dataclass(frozen=True)
class Kind:
    """What a checkpoint of one engine must look like."""

    layout: Mapping[str, Any]
    shapes: Callable[[int], dict[str, tuple[int, ...]]]


KINDS = {"batch": Kind(LAYOUT, shapes), "continuous": Kind(layouts.LAYOUT, layouts.shapes)}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights by name, float64, and what is known about them."""

    arrays: Mapping[str, NDArray[np.float64]]
    about: Mapping[str, Any]

    @property
    def hidden(self) -> int:
        """Hidden units."""
        return len(self.arrays["bias"])

    @property
    def engine(self) -> str:
        """The engine it decides in."""
        return str(self.about.get("engine", "batch"))

    @property
    def packed(self) -> NDArray[np.float64]:
        """The numbers as network.batch.score reads them: the hidden units, then every array; those of the engine
        `continuous` as llmsched.policies.network.continuous.admit does, the hidden units last."""
        size = [np.array([float(self.hidden)])]
        flat = [self.arrays[name].ravel() for name in KINDS[self.engine].shapes(self.hidden)]
        return np.concatenate(size + flat if self.engine == "batch" else flat + size)


def zeros(hidden: int) -> dict[str, NDArray[np.float64]]:
    """The weights of a network that scores everything 0."""
    return {name: np.zeros(shape) for name, shape in shapes(hidden).items()}


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
        "layout": KINDS[about.get("engine", "batch")].layout,
        **about,
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    np.savez(stem.with_name(stem.name + ".npz"), **kept)  # type: ignore[arg-type]
    stem.with_name(stem.name + ".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(path: str | Path | None = None, engine: str = "batch") -> Checkpoint:
    """The checkpoint at ``path`` (with or without .npz or .json; None: the one that is shipped for ``engine``).

    ``ValueError`` in one line when it is missing, broken, changed, or made for another layout.
    """
    stem = SHIPPED_FOR[engine] if path is None else _stem(path)
    about = _document(stem)
    if about.get("format") != FORMAT:
        raise ValueError(f"{stem}.json: format {about.get('format')!r} is not known: give a {FORMAT} checkpoint.")
    kind = KINDS.get(about.get("engine", "batch"))
    if kind is None:
        raise ValueError(f"{stem}.json: engine {about['engine']!r} is not known: give one for {' or '.join(KINDS)}.")
    _check_layout(stem, about.get("layout", {}), kind.layout)
    arrays = _arrays(stem)
    hidden = about.get("hidden")
    wanted = kind.shapes(hidden) if isinstance(hidden, int) and hidden > 0 else {}
    found = {name: array.shape for name, array in arrays.items()}
    if not wanted or found != wanted or any(array.dtype != np.float64 for array in arrays.values()):
        raise ValueError(f"{stem}.npz: its arrays are not those of a network of {hidden} hidden units: export it anew.")
    if digest(arrays) != about.get("sha256"):
        raise ValueError(f"{stem}.npz: its hash is not the one that {stem.name}.json names: one was changed.")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"{stem}.npz: some weights are not finite numbers: training went astray.")
    return Checkpoint(arrays, about)


def _stem(path: str | Path) -> Path:
    given = Path(path).expanduser()
    return given.with_suffix("") if given.suffix in (".npz", ".json") else given


def _document(stem: Path) -> dict[str, Any]:
    path = stem.with_name(stem.name + ".json")
    if path.with_suffix(".zip").is_file() and not path.is_file():
        raise ValueError(f"{path.with_suffix('.zip')} is of Stable-Baselines3 and would run code: export it first.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such checkpoint. Give one that train/ppo.py exported.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no JSON object.")
    return found


def _arrays(stem: Path) -> dict[str, NDArray]:
    path = stem.with_name(stem.name + ".npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: the weights are missing beside the JSON.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as plain arrays ({' '.join(str(error).split())}).") from None


def _check_layout(stem: Path, layout: Any, known: Mapping[str, Any]) -> None:
    for part, wanted in known.items():
        given = layout.get(part) if isinstance(layout, dict) else None
        if given != wanted:
            raise ValueError(
                f"{stem}.json: made for another layout, {_difference(part, given, wanted)}: train it anew."
            )


def _difference(part: str, given: Any, wanted: Any) -> str:
    if not isinstance(given, list) or not isinstance(wanted, list):
        return f"its {part} are {given!r}, here they are {wanted!r}"
    if len(given) != len(wanted):
        return f"its {part} has {len(given)} entries, here there are {len(wanted)}"
    place = next(i for i, (a, b) in enumerate(zip(given, wanted, strict=True)) if a != b)
    return f"entry {place} of its {part} is {given[place]!r}, here {wanted[place]!r}"
