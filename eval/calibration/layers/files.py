"""The files of a folder of layer tables, read and checked: times in microseconds of one layer of a model.

The format is that of LLMServingSim's profiler: attention.csv (prefill_chunk, kv_prefill, n_decode, kv_decode),
dense.csv (layer, tokens), per_sequence.csv (layer, sequences), moe.csv (tokens, activated_experts), and meta.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from llmsched_env.files.columns import numbers_of, read_table
from llmsched_env.files.reading import CannotReadError, read_bytes
from llmsched_env.files.showing import shortened, visible

Floats = NDArray[np.float64]
MOST_BYTES = 2**30
"""Most bytes of a file."""

MOST_ABOUT = 2**20
"""Most bytes of meta.yaml."""

TIME = "time_us"
KEYS = {
    "attention.csv": ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode"),
    "dense.csv": ("layer", "tokens"),
    "per_sequence.csv": ("layer", "sequences"),
    "moe.csv": ("tokens", "activated_experts"),
}
"""Columns beside the time, by file."""


@dataclass(frozen=True)
class Curve:
    """Times (N,) in us at ascending ``points`` (N,): linear between them and beyond the last, constant before."""

    points: Floats
    us: Floats

    def at(self, value: float) -> float:
        """The time at ``value``, us."""
        if value > self.points[-1] and len(self.points) > 1:
            slope = (self.us[-1] - self.us[-2]) / (self.points[-1] - self.points[-2])
            return float(self.us[-1] + slope * (value - self.points[-1]))
        return float(np.interp(value, self.points, self.us))


@dataclass(frozen=True)
class LayerTables:
    """What a folder holds.  Curves by layer; attention rows as frames; ``moe`` by number of activated experts."""

    folder: Path
    about: Mapping[str, Any]
    dense: Mapping[str, Curve]
    per_sequence: Mapping[str, Curve]
    decode_attention: Mapping[tuple[float, float], float]  # us by (members, tokens of each)
    prompt_attention: Mapping[tuple[float, float], float]  # us by (tokens of the chunk, tokens before it)
    moe: Mapping[float, Curve]  # times by tokens

    @property
    def model(self) -> str:
        """The model by its hub name."""
        return self.text("model")

    def skew(self, tensor_parallel: int) -> float:
        """Share of the way from the mean to the longest context at which unequal contexts are as slow as equal ones.

        The profiler measured it beside the tables (meta.yaml, skew_fit); 0 where it did not.
        """
        fits = _mapping(_mapping(self.about.get("skew_fit")).get("per_tp"))
        fit = _mapping(fits.get(tensor_parallel) or fits.get(str(tensor_parallel)))
        share = fit.get("alpha_default", 0.0)
        if type(share) not in (int, float) or not 0 <= share <= 1:
            where = f"{self.folder / 'meta.yaml'}: skew_fit: alpha_default={shortened(repr(share))}"
            raise ValueError(f"{where} is not allowed: give a number from 0 to 1.")
        return float(share)

    def text(self, name: str) -> str:
        """What meta.yaml says under ``name``, or an empty text."""
        found = self.about.get(name)
        return visible(found) if isinstance(found, str) else ""


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def read_layers(folder: Path) -> LayerTables:
    """The tables in ``folder``; ``ValueError`` with one line that names file, row and what is allowed."""
    if not folder.is_dir():
        raise ValueError(f"--layers {str(folder)!r}: there is no such folder.")
    about = _read_about(folder / "meta.yaml")
    attention = _read(folder / "attention.csv")
    decode = attention[(attention["prefill_chunk"] == 0) & (attention["n_decode"] > 0)]
    prompt = attention[(attention["n_decode"] == 0) & (attention["prefill_chunk"] > 0)]
    if decode.empty or prompt.empty:
        what = "n_decode > 0 and prefill_chunk = 0" if decode.empty else "n_decode = 0 and prefill_chunk > 0"
        raise ValueError(f"{folder / 'attention.csv'}: no row with {what}; a profile needs them.")
    moe = _read(folder / "moe.csv") if (folder / "moe.csv").is_file() else None
    return LayerTables(
        folder,
        about,
        _curves(_read(folder / "dense.csv"), "layer", "tokens"),
        _curves(_read(folder / "per_sequence.csv"), "layer", "sequences"),
        _points(decode, "n_decode", "kv_decode"),
        _points(prompt, "prefill_chunk", "kv_prefill"),
        {} if moe is None else _curves(moe, "activated_experts", "tokens"),
    )


class _PlainLoader(yaml.SafeLoader):
    """Values and nothing else: no objects, and no aliases, with which a few lines stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next value; ``YAMLError`` for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1}: an alias: write the value out")
        return super().compose_node(parent, index)


def _read_about(path: Path) -> Mapping[str, Any]:
    try:
        about = _PlainLoader(read_bytes(path, MOST_ABOUT).decode("utf-8-sig")).get_single_data()
    except (CannotReadError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not readable as YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(about, dict):
        raise ValueError(f"{path}: not a mapping of names and values.")
    return about


def _read(path: Path) -> pd.DataFrame:
    """A table whose numbers are finite, whose times are above 0, and whose points are there once."""
    keys = KEYS[path.name]
    try:
        frame = read_table(read_bytes(path, MOST_BYTES), encoding="utf-8-sig", skipinitialspace=True)
    except CannotReadError as error:
        raise ValueError(f"{path}: not readable as CSV ({error}).") from error
    frame.columns = frame.columns.str.strip()
    missing = [name for name in (*keys, TIME) if name not in frame]
    if missing:
        found = ", ".join(shortened(visible(str(name))) for name in frame.columns[:12])
        raise ValueError(f"{path}: no column {', '.join(missing)}; times are in {TIME}, microseconds. It has {found}.")
    if frame.empty:
        raise ValueError(f"{path} has a header and no row.")
    for name in (*keys, TIME):
        if name != "layer":
            frame[name] = _numbers(path, name, frame[name])
    _refuse(path, TIME, frame[TIME], (frame[TIME] <= 0).to_numpy(), "microseconds above 0")
    again = frame.duplicated(list(keys)).to_numpy()
    if again.any():
        row = int(np.argmax(again))
        where = ", ".join(f"{name}={frame[name].iloc[row]}" for name in keys)
        raise ValueError(f"{path}, row {row + 1}: the point {where} is there twice: give it once.")
    return frame


def _numbers(path: Path, name: str, values: pd.Series) -> pd.Series:
    found = numbers_of(values)
    _refuse(path, name, values, ~np.isfinite(found) | (found < 0), "a number of at least 0")
    return pd.Series(found, values.index)


def _refuse(path: Path, name: str, values: pd.Series, wrong: NDArray[np.bool_], wanted: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{path}, row {row + 1}: {name}={shortened(str(values.iloc[row]))} is not allowed: give {wanted}."
        )


def _curves(frame: pd.DataFrame, by: str, along: str) -> dict[Any, Curve]:
    return {key: _curve(rows, along) for key, rows in frame.groupby(by)}


def _curve(rows: pd.DataFrame, along: str) -> Curve:
    ordered = rows.sort_values(along)
    return Curve(ordered[along].to_numpy(float), ordered[TIME].to_numpy(float))


def _points(rows: pd.DataFrame, first: str, second: str) -> dict[tuple[float, float], float]:
    pairs: Sequence[tuple[float, float]] = list(zip(rows[first], rows[second], strict=True))
    return dict(zip(pairs, rows[TIME], strict=True))
