"""Files of Stable-Baselines3's ``VecNormalize.save``: how observations were scaled, read without running anything.

The file is a pickle.  Here every name in it stands for one class without behaviour that only keeps what it is given
(`_Kept`), so nothing is imported or called.  (stable_baselines3/common/vec_env/vec_normalize.py, normalize_obs)
"""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched.train.sb3_zip import Layers
from llmsched_env.files.reading import CannotReadError, read_bytes

MOST_BYTES = 2**24

Limits = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Scaling:
    """An observation x becomes (x - mean) / deviation, clipped to -clip ... clip; arrays (in,), no units."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    clip: float


def fold(layers: Layers, scaling: Scaling) -> tuple[Layers, Limits]:
    """The layers for observations that are not scaled, and the limits (in,), (in,) to which these are clipped.

    The limits stay within -1 and 1, as observations do.  ``ValueError`` where the lengths differ.
    """
    (weights, biases), *others = layers
    if weights.shape[1] != len(scaling.mean):
        raise ValueError(
            f"--vec-normalize: it scales {len(scaling.mean)} entries, where the agent sees {weights.shape[1]}: give "
            f"the file that belongs to it."
        )
    low = np.clip(scaling.mean - scaling.clip * scaling.deviation, -1.0, 1.0)
    high = np.clip(scaling.mean + scaling.clip * scaling.deviation, -1.0, 1.0)
    scaled = weights / scaling.deviation
    return [(scaled, biases - scaled @ scaling.mean), *others], (low, high)


def read_scaling(path: Path) -> Scaling | None:
    """The scaling in the file at ``path``, None where only rewards were normalised.

    ``ValueError``, in one line with its name, for anything else.
    """
    try:
        return _scaling(_fields(_loaded(read_bytes(path, MOST_BYTES)), "VecNormalize"))
    except CannotReadError as error:
        raise ValueError(f"--vec-normalize {path}: {error}.") from None


class _Kept:
    """Stands for every object of the file: keeps its arguments and its state."""

    name = ""
    state: Any = None

    def __new__(cls, *arguments: Any, **_: Any) -> _Kept:
        """An object that keeps ``arguments``."""
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        self.arguments: tuple[Any, ...]

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    """A reader of pickles that knows `_Kept` alone."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """A class that stands for the one of this name."""
        return type("_Named", (_Kept,), {"name": global_name})


def _loaded(content: bytes) -> Any:
    try:
        return _Reader(io.BytesIO(content)).load()
    except Exception as error:  # pickle raises whatever the bytes lead to
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise CannotReadError(f"is no file of VecNormalize ({reason})") from None


def _fields(found: Any, name: str) -> dict[str, Any]:
    """The fields of the object of class ``name``."""
    if not isinstance(found, _Kept) or found.name != name or not isinstance(found.state, dict):
        raise CannotReadError(f"holds no {name} of Stable-Baselines3")
    return found.state


def _scaling(fields: dict[str, Any]) -> Scaling | None:
    if fields.get("norm_obs") is False:
        return None
    if fields.get("norm_obs_keys"):
        raise CannotReadError("scales a dictionary of observations: agents of one vector are exported")
    running = _fields(fields.get("obs_rms"), "RunningMeanStd")
    mean, variance = _array(running.get("mean")), _array(running.get("var"))
    clip, epsilon = (_number(fields, name) for name in ("clip_obs", "epsilon"))
    if mean.shape != variance.shape or not np.isfinite(mean).all() or not (variance >= 0).all() or clip <= 0:
        raise CannotReadError("has means, variances or a clip_obs that no training gives")
    deviation = np.sqrt(variance + epsilon)
    if not (np.isfinite(deviation).all() and (deviation > 0).all()):
        raise CannotReadError("has variances by which nothing can be divided")
    return Scaling(mean, deviation, clip)


def _number(fields: dict[str, Any], name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, float | int) or math.isnan(value):
        raise CannotReadError(f"its {name} is no number")
    return float(value)


def _array(found: Any) -> NDArray[np.float64]:
    """A vector of 64-bit numbers, from either form in which NumPy pickles one."""
    kept = found if isinstance(found, _Kept) else _Kept()
    if kept.name == "_reconstruct" and isinstance(kept.state, tuple) and len(kept.state) == 5:
        _, shape, kind, _, content = kept.state
    elif kept.name == "_frombuffer" and len(kept.arguments) == 4:
        content, kind, shape, _ = kept.arguments
    else:
        raise CannotReadError("its means and variances are no arrays")
    plain = isinstance(kind, _Kept) and kind.name == "dtype" and kind.arguments[:1] == ("f8",)
    if not (plain and isinstance(shape, tuple) and len(shape) == 1 and isinstance(content, bytes | bytearray)):
        raise CannotReadError("its means and variances are no vectors of 64-bit numbers")
    if len(content) != 8 * shape[0]:
        raise CannotReadError("its means and variances are cut short")
    return np.frombuffer(bytes(content), "<f8")
