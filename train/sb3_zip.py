"""Files of Stable-Baselines3 (``model.save``), read without unpickling anything: weights, and what the texts say.

A zip of the library holds ``data``, a JSON in which every object is a pickle in base64 with the texts of its fields
beside it, and ``policy.pth``, the weights as torch writes them.  Read are the texts, never a pickle, and the weights
by torch's loader of plain tensors.  (stable_baselines3/common/save_util.py, data_to_json and save_to_zip_file)
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmsched_env.files.reading import CannotReadError, json_of, read_bytes

MOST_BYTES = 2**28
"""Most bytes of the zip, and of its weights."""

MOST_DATA = 2**24
"""Most bytes of its data, a JSON of some 100 kB."""

Weights = Mapping[str, NDArray[np.float64]]
Layers = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Family:
    """Policies of one module of the library: what their network is, and its activation where none is named."""

    kind: str
    masked: bool
    activation: str
    body: str  # the hidden layers: NAME.0.weight, NAME.2.weight, ...
    head: str  # the last layer, empty where it belongs to the body
    others: tuple[str, ...]  # what does not decide


FAMILIES = {
    "stable_baselines3.common.policies": Family(
        "logits", False, "tanh", "mlp_extractor.policy_net", "action_net", ("mlp_extractor.value_net", "value_net")
    ),
    "sb3_contrib.common.maskable.policies": Family(
        "logits", True, "tanh", "mlp_extractor.policy_net", "action_net", ("mlp_extractor.value_net", "value_net")
    ),
    "stable_baselines3.dqn.policies": Family("q", False, "relu", "q_net.q_net", "", ("q_net_target.q_net",)),
}
"""By the module of the policy's class.  A2C and TRPO share the first with PPO."""

UNKNOWN = (
    ("lstm", "it is recurrent"),
    ("features_extractor.cnn", "it is a CNN"),
    ("features_extractor.extractors", "it reads a dictionary of observations"),
    ("features_extractor", "it has a features extractor of its own"),
    ("log_std", "its actions are continuous"),
)
"""Parts of a name among the weights, and what they say."""

PYTHON_PATH = "Enter it as a Python function, --policies FILE.py:act"


@dataclass(frozen=True)
class SavedAgent:
    """The deciding network of a zip: its layers from the inputs on, and what the texts say about it."""

    layers: Layers
    family: Family
    algorithm: str
    activation: str | None  # None: the file does not say
    action_parts: list[int] | None  # values of every part of an action; None: the file does not say


def read_agent(path: Path) -> SavedAgent:
    """The agent in the zip at ``path``; ``ValueError``, in one line with its name, for anything else."""
    try:
        data, weights = _read(path)
        family = _family(data)
        return SavedAgent(
            _layers(weights, family),
            family,
            _algorithm(data, family),
            _activation(data, family),
            _action_parts(data),
        )
    except CannotReadError as error:
        raise ValueError(f"{path}: {error}.") from None


def _read(path: Path) -> tuple[dict[str, Any], Weights]:
    content = read_bytes(path, MOST_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            data, weights = _entry(archive, "data", MOST_DATA), _entry(archive, "policy.pth", MOST_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, CannotReadError):
            raise
        raise CannotReadError(f"is no file of Stable-Baselines3 ({' '.join(str(error).split())})") from None
    found = json_of(data)
    if not isinstance(found, dict):
        raise CannotReadError("its data are no JSON object")
    return found, _tensors(weights)


def _entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of an entry, at most ``most``."""
    if name not in archive.namelist():
        raise CannotReadError(f"is no file of Stable-Baselines3: it holds no {name}")
    with archive.open(name) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise CannotReadError(f"its {name} has more than {most:,} bytes")
    return found


def _tensors(content: bytes) -> Weights:
    """The weights by name: plain tensors of floating-point numbers."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise CannotReadError("its weights are compressed, which torch does not do")
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except CannotReadError:
        raise
    except Exception as error:  # torch raises whatever its parts raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CannotReadError(f"its weights cannot be read as plain tensors ({reason[:200]})") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise CannotReadError("its weights are no tensors by name")
    return {name: _numbers(name, value) for name, value in found.items()}


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    plain = isinstance(value, torch.Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    if not plain or not value.is_floating_point() or value.numel() * 8 > MOST_BYTES:
        raise CannotReadError(f"its {name[:60]!r} is no plain tensor of numbers of an expected size")
    return value.detach().to(torch.float64).numpy()


def _family(data: Mapping[str, Any]) -> Family:
    space = _text(data, "observation_space", ":type:")
    if space and ".box.Box" not in space:
        raise CannotReadError(f"it reads a dictionary of observations, or no vector ({space[:80]}). {PYTHON_PATH}")
    module = _text(data, "policy_class", "__module__")
    if module not in FAMILIES:
        known = "PPO, A2C, MaskablePPO and DQN with MlpPolicy"
        raise CannotReadError(f"its policy is of {module[:80] or 'no module'!r}: exported are {known}. {PYTHON_PATH}")
    return FAMILIES[module]


def _layers(weights: Weights, family: Family) -> Layers:
    """The layers that decide; anything that belongs to no known part is refused."""
    body = re.compile(re.escape(family.body) + r"\.(\d+)\.(weight|bias)")
    places: set[int] = set()
    for name in weights:
        place = body.fullmatch(name)
        if place:
            places.add(int(place[1]))
        elif not any(name.startswith(f"{part}.") for part in (family.head, *family.others) if part):
            why = next(
                (said for part, said in UNKNOWN if part in name), f"it has {name[:60]!r}, which no MlpPolicy has"
            )
            raise CannotReadError(f"{why}: only multi-layer perceptrons of one vector are exported. {PYTHON_PATH}")
    names = [f"{family.body}.{place}" for place in sorted(places)] + [family.head] * bool(family.head)
    found = []
    for name in names:
        if f"{name}.weight" not in weights or f"{name}.bias" not in weights:
            raise CannotReadError(f"its layer {name} is not complete")
        found.append((weights[f"{name}.weight"], weights[f"{name}.bias"]))
    if not found or any(w.ndim != 2 or b.shape != w.shape[:1] for w, b in found):
        raise CannotReadError("its layers are not those of a multi-layer perceptron")
    return found


def _text(data: Mapping[str, Any], name: str, key: str) -> str:
    """A text that stands beside a pickle, or nothing."""
    fields = data.get(name)
    return str(fields.get(key, "")) if isinstance(fields, dict) else ""


def _algorithm(data: Mapping[str, Any], family: Family) -> str:
    if family.kind == "q":
        return "DQN"
    if family.masked:
        return "MaskablePPO"
    return "PPO" if "clip_range" in data else "A2C"


def _activation(data: Mapping[str, Any], family: Family) -> str | None:
    """The activation that the arguments of the policy name, or the library's own; None where they are not told."""
    arguments = data.get("policy_kwargs")
    if not isinstance(arguments, dict):
        return None
    extractor = str(arguments.get("features_extractor_class", "FlattenExtractor"))
    if "FlattenExtractor" not in extractor:
        raise CannotReadError(f"it has a features extractor of its own ({extractor[:80]}). {PYTHON_PATH}")
    given = arguments.get("activation_fn")
    if given is None:
        return family.activation
    found = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(Tanh|ReLU)'>", str(given))
    if found is None:
        raise CannotReadError(f"its activation is {str(given)[:80]}: exported are Tanh and ReLU. {PYTHON_PATH}")
    return found[1].lower()


def _action_parts(data: Mapping[str, Any]) -> list[int] | None:
    for key in ("nvec", "n"):
        said = re.fullmatch(r"\[?([\d\s]+)\]?", _text(data, "action_space", key).strip())
        if said:
            return [int(part) for part in said[1].split()]
    return None
