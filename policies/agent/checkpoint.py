"""Exported agents: a multi-layer perceptron of an environment's observation, in two files of one name.

``NAME.npz`` holds ``weight0`` (out, in), ``bias0`` (out,), ``weight1``, ...; of an agent that learned from normalised
observations also ``low`` and ``high`` (in,), between which every entry is clipped.  ``NAME.json`` says what they are
for (FORMAT):

* ``engine``, ``action``, ``max_bins``, ``max_batch``, ``overdue``, ``cached``, ``refusals``: the environment's spaces;
* ``activation`` between the layers, ``kind`` of the outputs (logits of a policy, or Q values), ``masked``: whether the
  agent chose among valid actions only;
* ``layers``: inputs, hidden units, outputs; ``algorithm`` and ``source``: how it came about.

Nothing in either file runs code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from llmsched_env import engines
from llmsched_env.core.constants import MAX_BINS
from llmsched_env.core.view.observation import GLOBAL, PER_BIN
from llmsched_env.envs import spaces
from llmsched_env.options.words import ENGINES

FORMAT = "llmsched-agent/v1"
"""Format of the JSON, its first field."""

ACTIVATIONS = ("tanh", "relu")
KINDS = ("logits", "q")
RANGE = ("low", "high")
"""Arrays that only some agents have."""
ACTIONS = ("multidiscrete", "ladder")
EXTRAS = ("overdue", "cached", "refusals")

MOST_WIDTH, MOST_LAYERS, MOST_BATCH = 2**16, 16, 2**20

MAKER = "train/export.py"
OF_ZIP = "export it first: python train/export.py FILE.zip --env ID --out NAME"

Arrays = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Face:
    """What an agent sees and answers: the spaces of an environment."""

    engine: str
    action: str
    limits: spaces.Limits

    @property
    def inputs(self) -> int:
        """Entries of the observation."""
        return int(spaces.observation_space(self.limits, engines.get(self.engine)).shape[0])

    @property
    def parts(self) -> list[int]:
        """Number of values of every part of an action."""
        return spaces.action_sizes(self.action, self.limits)

    @property
    def fields(self) -> dict[str, Any]:
        """As the JSON carries it."""
        return {"engine": self.engine, "action": self.action, **vars(self.limits)}

    @property
    def observation(self) -> dict[str, list[str]]:
        """The entries of the observation, as the JSON carries them."""
        engine = engines.get(self.engine)
        own = [*engine.entries, *(engine.cache_entries if self.limits.cached else ())]
        rows = {"global": GLOBAL, "per_bin": PER_BIN, "engine": own}
        return {part: [f"{name} [{unit}] {scale}" for name, _, unit, scale in rows[part]] for part in rows}


@dataclass(frozen=True, eq=False)
class Agent:
    """A network: its face, its arrays (`names_of`), float64, and the fields of the JSON."""

    face: Face
    arrays: Arrays
    about: Mapping[str, Any]

    @property
    def layers(self) -> list[int]:
        """Inputs, hidden units, outputs."""
        count = sum(name.startswith("bias") for name in self.arrays)
        return [self.arrays["weight0"].shape[1], *(len(self.arrays[f"bias{n}"]) for n in range(count))]

    @property
    def packed(self) -> NDArray[np.float64]:
        """The numbers (P,) that the compiled policy reads (layers.py)."""
        face, limits = self.face, self.face.limits
        head = [
            face.action == "ladder",
            limits.max_bins,
            limits.max_batch,
            limits.overdue,
            self.about["masked"],
            ACTIVATIONS.index(self.about["activation"]),
            len(self.layers) - 1,
            *self.layers,
        ]
        weights = (
            part
            for n in range(len(self.layers) - 1)
            for part in (self.arrays[f"weight{n}"].T.ravel(), self.arrays[f"bias{n}"])
        )
        everything = np.full(self.layers[0], np.inf)
        low, high = self.arrays.get("low", -everything), self.arrays.get("high", everything)
        return np.concatenate([np.array(head, np.float64), low, high, *weights])


def shapes_of(layers: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a network with these layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for n, (before, after) in enumerate(zip(layers[:-1], layers[1:], strict=True)):
        shapes[f"weight{n}"], shapes[f"bias{n}"] = (after, before), (after,)
    return shapes


def save(
    path: str | Path, face: Face, layers: Sequence[tuple[Any, Any]], limits: tuple[Any, Any] | None = None, **about: Any
) -> Agent:
    """Write ``path``.npz and ``path``.json; ``layers``: pairs of weights (out, in), biases (out,), from the inputs on.

    ``limits``: the smallest and the largest value (in,) of every entry of the observation; beyond, it is clipped.
    ``about`` has ``activation``, ``kind``, ``masked``, ``algorithm`` and ``source``.  ``ValueError`` in one line where
    the layers are not a network of ``face``.
    """
    stem = stem_of(path)
    arrays = {
        f"{name}{n}": np.ascontiguousarray(array, np.float64)
        for n, pair in enumerate(layers)
        for name, array in zip(("weight", "bias"), pair, strict=True)
    }
    if limits is not None:
        arrays |= {name: np.ascontiguousarray(array, np.float64) for name, array in zip(RANGE, limits, strict=True)}
    for n in range(len(layers)):
        if arrays[f"weight{n}"].ndim != 2:
            raise ValueError(
                f"{stem}: the weights of layer {n} have shape {arrays[f'weight{n}'].shape}: give (out, in)."
            )
    widths = [arrays["weight0"].shape[1], *(len(arrays[f"weight{n}"]) for n in range(len(layers)))]
    document = {
        "format": FORMAT,
        "package_version": llmsched_env.__version__,
        **face.fields,
        **about,
        "layers": widths,
        "observation": face.observation,
        "sha256": digest(arrays),
    }
    agent = _checked(stem, document, arrays)
    write_files(stem, arrays, document)
    return agent


def load(path: str | Path) -> Agent:
    """The agent at ``path``, with or without .npz or .json.

    ``ValueError`` in one line when it is missing, damaged, changed, or made for another observation.
    """
    stem = stem_of(path)
    document = read_document(stem, maker=MAKER, of_zip=OF_ZIP)
    if document.get("format") != FORMAT:
        raise ValueError(f"{stem}.json: format {document.get('format')!r} is not known: give a {FORMAT} agent.")
    face = _face(stem, document)
    check_layout(stem, document.get("observation"), face.observation)
    return _checked(stem, document, read_weights(stem))


def _face(stem: Path, document: Mapping[str, Any]) -> Face:
    """The spaces that the JSON names; ``ValueError`` names a field that is not allowed."""
    words = {"engine": ENGINES, "action": ACTIONS, "activation": ACTIVATIONS, "kind": KINDS}
    for name, allowed in words.items():
        if document.get(name) not in allowed:
            raise _refused(stem, document, name, f"one of {', '.join(allowed)}")
    for name, most in (("max_bins", MAX_BINS), ("max_batch", MOST_BATCH)):
        if type(document.get(name)) is not int or not 1 <= document[name] <= most:
            raise _refused(stem, document, name, f"a whole number from 1 to {most}")
    for name in (*EXTRAS, "masked"):
        if type(document.get(name)) is not bool:
            raise _refused(stem, document, name, "true or false")
    limits = spaces.Limits(**{name: document[name] for name in ("max_bins", "max_batch", *EXTRAS)})
    if limits.cached and not engines.get(document["engine"]).cache_entries:
        raise _refused(stem, document, "cached", "false for this engine")
    return Face(document["engine"], document["action"], limits)


def _refused(stem: Path, document: Mapping[str, Any], name: str, allowed: str) -> ValueError:
    return ValueError(f"{stem}.json: {name}={str(document.get(name))[:40]!r} is not allowed: give {allowed}.")


def _checked(stem: Path, document: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Agent:
    """The agent, once everything in the files agrees."""
    face, layers = _face(stem, document), document.get("layers")
    if (
        not isinstance(layers, list)
        or not 2 <= len(layers) <= MOST_LAYERS + 1
        or not all(type(width) is int and 0 < width <= MOST_WIDTH for width in layers)
    ):
        raise _refused(stem, document, "layers", f"2 to {MOST_LAYERS + 1} whole numbers from 1 to {MOST_WIDTH}")
    ranges = dict.fromkeys(RANGE, (layers[0],)) if any(name in arrays for name in RANGE) else {}
    if {name: array.shape for name, array in arrays.items()} != shapes_of(layers) | ranges:
        raise ValueError(f"{stem}.npz: its arrays are not those of the layers {layers}: export it again.")
    if any(array.dtype != np.float64 for array in arrays.values()):
        raise ValueError(f"{stem}.npz: its arrays are not float64: export it again.")
    if (layers[0], layers[-1]) != (face.inputs, sum(face.parts)):
        raise ValueError(
            f"{stem}: a network of {layers[0]} inputs and {layers[-1]} outputs, where {described(face)} has "
            f"{face.inputs} and {sum(face.parts)}: export it for the environment that it was trained in."
        )
    check_weights(stem, arrays, document.get("sha256"))
    return Agent(face, arrays, document)


def described(face: Face) -> str:
    """The environment of ``face`` in words."""
    limits = face.limits
    extras = ", overdue queue" * limits.overdue + ", prefix cache" * limits.cached + ", refusals" * limits.refusals
    return (
        f"an environment of engine {face.engine}, action {face.action}, max_bins={limits.max_bins}, "
        f"max_batch={limits.max_batch}{extras}"
    )
