"""Latency profiles: what a server costs, read from JSON and checked (no code is executed)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmsched_env import atlas, datafiles
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.showing import shortened
from llmsched_env.grids import Grids
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.profile_facts import check_facts

FORMS = ("split", "tokens", "batch-length", "affine", "floor", "experts", "table")

COEFFICIENTS = {
    "split": ("d0", "d1", "d2", "p0", "p1", "p2"),
    "tokens": ("w0", "e0", "w1", "a_p", "a_d"),
    "batch-length": ("a", "beta", "g"),
    "affine": ("d0", "d1", "d2", "p0", "p1", "p2"),
    "floor": ("d0", "d1", "d2", "p0", "p1", "p2"),
    "experts": ("d0", "d1", "d2", "p0", "p1", "p2", "e0", "e1", "h0"),
    "table": ("p2",),
}
"""Names of the coefficients of every form, in ms and tokens (docs/reference/semantics.md has the formulas)."""

PURE = {"g": math.inf, "e1": 1.0}
"""Coefficients that are pure numbers, not times, and the most that they may be."""

LENGTHS = ("output", "total")
MOST_GPUS = 1024
LARGEST = 1e300
"""Largest coefficient: products with a number of tokens stay finite."""

SCHEMA = "llmsched-profile/v1"
UNITS = "ms; tokens"
MOST_BYTES = 2**26
"""Most bytes of a profile."""
_REQUIRED = ("schema", "name", "form", "units", "coefficients", "kv_tokens")


@dataclass(frozen=True)
class Profile:
    """Latency of one server (a GPU or tensor-parallel group) for one model.

    ``coefficients`` are in ms and tokens, named as in docs/reference/semantics.md: ``split``: d0 d1 d2 p0 p1 p2;
    ``affine``: d0 d1 d2 p0 p1 p2; ``floor``: d0 d1 d2 p0 p1 p2;
    ``tokens``: w0 e0 w1 a_p a_d; ``batch-length``: a beta g; ``experts``: d0 d1 d2 p0 p1 p2 e0 e1 h0;
    ``table``: p2 and ``grids``.
    """

    name: str
    form: str
    coefficients: dict[str, float] = field(hash=False)
    kv_tokens: float  # KV capacity in tokens, inf where there is no limit
    tensor_parallel: int = 1
    length: str = "output"  # batch-length only: "output" or "total"
    noise_sigma: float = 0.0
    grids: Grids | None = None  # form `table` only
    meta: dict = field(default_factory=dict, hash=False, compare=False)  # gpu, model, source, errors, caveats

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form={self.form!r} is not known: choose one of {', '.join(FORMS)}.")
        if type(self.coefficients) is not dict:
            raise ValueError(f"coefficients={self.coefficients!r} is not allowed: give an object of names and numbers.")
        wanted = COEFFICIENTS[self.form]
        for name in wanted:
            if name not in self.coefficients:
                raise ValueError(f"coefficients.{name} is missing: the form {self.form} needs {', '.join(wanted)}.")
            most = PURE.get(name, math.inf)
            wanted_value = "a finite number of at least 0" if most == math.inf else f"a number from 0 to {most:g}"
            _check(f"coefficients.{name}", self.coefficients[name], 0.0, most, wanted_value)
        for name in self.coefficients:
            if name not in wanted:
                raise ValueError(f"coefficients.{name} is not known: the form {self.form} has {', '.join(wanted)}.")
        if (self.form == "table") != (self.grids is not None):
            raise ValueError("grids and the form 'table' belong together: give both or neither.")
        if self.kv_tokens != math.inf:
            _check("kv_tokens", self.kv_tokens, 2, math.inf, "at least 2 tokens, or no limit (null in JSON)")
        _check("tensor_parallel", self.tensor_parallel, 1, MOST_GPUS, f"a whole number of GPUs from 1 to {MOST_GPUS}")
        if self.tensor_parallel != int(self.tensor_parallel):
            raise ValueError(f"tensor_parallel={self.tensor_parallel!r} is not allowed: give a whole number of GPUs.")
        if self.length not in LENGTHS:
            raise ValueError(f"length={self.length!r} is not known: choose one of {', '.join(LENGTHS)}.")
        _check("noise_sigma", self.noise_sigma, 0.0, 1.0, "a number from 0 to 1")
        _check("client_offset_ms", self.meta.get("client_offset_ms", 0.0), 0.0, 1e6, "ms from 0 to 1e6")

    @property
    def client_offset_s(self) -> float:
        """Time by which a client sees every token later than the server gives it, s; 0 where it was not fitted."""
        return float(self.meta.get("client_offset_ms", 0.0)) / 1000.0

    def prefill_ms(self, prompts: ArrayLike) -> float:
        """Time in ms to prefill one batch, given the prompt lengths of its members (tokens)."""
        lengths = np.atleast_1d(np.asarray(prompts, dtype=np.float64))
        return self._law("prefill", float(lengths.sum()), float((lengths**2).sum()))

    def decode_step_ms(self, batch: float, kv_tokens: float) -> float:
        """Time in ms of one decode step of ``batch`` sequences that hold ``kv_tokens`` tokens together."""
        return self._law("step", batch, kv_tokens)

    def mixed_ms(self, batch: float, kv_tokens: float, tokens: float, squares: float) -> float:
        """Time in ms of an iteration: a decode step beside chunks of ``tokens`` with an attention of ``squares``."""
        return self._law("mixed", batch, kv_tokens, tokens, squares)

    def iteration_ms(self, batch: float, kv_tokens: float, tokens: float, squares: float) -> float:
        """Time in ms of an iteration, whatever it is: a decode step, chunks of prompts, or both."""
        if not tokens:
            return self.decode_step_ms(batch, kv_tokens)
        return self.mixed_ms(batch, kv_tokens, tokens, squares) if batch else self._law("prefill", tokens, squares)

    def numbers(self, unit: float = 1.0) -> list[float]:
        """The law as core.latency reads it: the coefficients in the order of COEFFICIENTS, times in ms times ``unit``;
        of a `table`, the grids."""
        if self.grids is not None:
            return self.grids.numbers(self.coefficients["p2"], unit)
        names = COEFFICIENTS[self.form]
        return [self.coefficients[name] * (1.0 if name in PURE else unit) for name in names]

    def _law(self, name: str, *arguments: float) -> float:
        """A function of core.latency, in ms."""
        from llmsched_env.compiler.parts import plain  # here: it loads Numba, which this file does without
        from llmsched_env.core import latency

        return plain(getattr(latency, name))(FORMS.index(self.form), self.numbers(), *arguments)


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with the package: those with a file of their own, then the atlas; each sorted."""
    return [*datafiles.shipped("profiles"), *sorted(atlas.entries())]


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a shipped profile by name (of the atlas by the beginning of it), or any by the path of its JSON file.

    Raises ``ValueError`` with one line that names the file, the field and what is allowed.
    """
    text = str(name_or_path)
    known = datafiles.shipped("profiles")
    if text in known:
        return _read(datafiles.data_dir("profiles") / f"{text}.json")
    path = Path(text)
    if os.path.lexists(path):
        return _read(path)
    found = atlas.find(text)
    if found is not None:
        return from_json({**found, "schema": SCHEMA})
    if path.suffix == ".json" or (len(path.parts) > 1 and not atlas.nearest(text)):
        raise ValueError(f"profile {text!r}: there is no such file.")
    near = atlas.nearest(text)
    close = f" Did you mean {', '.join(near)}?" if near else did_you_mean(text, known)
    raise ValueError(
        f"profile {text!r} is not known.{close} Shipped: {', '.join(known)}, and {len(atlas.entries())} more such as "
        "h100/llama-3.1-70b/vllm, which eval/profiles.py lists; or give a JSON file."
    )


def _read(path: Path) -> Profile:
    try:
        raw = read_json(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"profile {path}: {error}.") from None
    if type(raw) is not dict:
        raise ValueError(f"profile {path}: not a JSON object but {type(raw).__name__}.")
    try:
        return from_json(raw)
    except ValueError as error:
        raise ValueError(f"profile {path}: {error}") from error


def from_json(raw: Mapping[str, Any]) -> Profile:
    """The profile in the object ``raw`` of a JSON file; ``ValueError`` names the field and what is allowed."""
    for name in _REQUIRED:
        if name not in raw:
            raise ValueError(f"the field {name!r} is missing (needed: {', '.join(_REQUIRED)}).")
    if raw["schema"] != SCHEMA:
        raise ValueError(f"schema={raw['schema']!r} is not supported: this version reads {SCHEMA!r}.")
    if raw["units"] != UNITS:
        raise ValueError(f"units={raw['units']!r} is not supported: give times and lengths in {UNITS!r}.")
    if not isinstance(raw["name"], str) or not raw["name"] or not raw["name"].isprintable():
        raise ValueError(f"name={raw['name']!r} is not allowed: give a text of printable characters.")
    if raw["form"] == "batch-length" and "length" not in raw:
        raise ValueError(f"the field 'length' is missing: a batch-length profile needs one of {', '.join(LENGTHS)}.")
    own = ("name", "form", "coefficients", "tensor_parallel", "length", "noise_sigma")
    kv_tokens = math.inf if raw["kv_tokens"] is None else raw["kv_tokens"]
    meta = {k: v for k, v in raw.items() if k not in (*own, "kv_tokens", "grids")}
    check_facts(meta)
    grids = Grids.from_json(raw["grids"]) if "grids" in raw else None
    return Profile(kv_tokens=kv_tokens, grids=grids, meta=meta, **{k: raw[k] for k in own if k in raw})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _check(name: str, value: Any, low: float, high: float, wanted: str) -> None:
    if not _is_number(value) or not low <= value <= high or value > LARGEST:  # NaN is in no interval
        raise ValueError(f"{name}={shortened(repr(value))} is not allowed: give {wanted}.")
