"""The measured points: rows of the silicon table, read, checked, and grouped by configuration."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from llmsched.eval.silicon.closed_loop import Loop
from llmsched_env.files.columns import numbers_of, read_table
from llmsched_env.files.reading import CannotReadError, read_bytes
from llmsched_env.files.showing import shortened

LEAST_POINTS = 6
"""Fewest points of a configuration that is considered."""

KEYS = (
    "model_path",
    "system",
    "backend",
    "backend_version",
    "precision",
    "tp_size",
    "pp_size",
    "attention_dp_size",
    "moe_tp_size",
    "moe_ep_size",
    "gemm_quant_mode",
    "moe_quant_mode",
)
"""Columns that make a configuration."""

NEEDED = (*KEYS, "mode", "silicon_data_source", "isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms")
COUNTS = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
"""Columns of KEYS that are whole numbers; where one is empty it counts as 1."""

MOST = {"isl": 2e6, "osl": 2e6, "clients": 20_000, "silicon_ttft_ms": 1e9, "silicon_tpot_ms": 1e9}
"""Largest number in a column: tokens, clients, ms.  A loop beyond it would not be simulated in bounded time."""

MOST_COUNT = 1e6

CLIENTS = re.compile(r"silicon_concurrency=(\d+)")
MEASURED = re.compile(r"measured=(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Point:
    """A closed loop, its measured mean times in ms, and how many rows they are the medians of."""

    loop: Loop
    ttft_ms: float
    tpot_ms: float
    rows: int


@dataclass(frozen=True)
class Configuration:
    """What was measured: a model on GPUs by an engine; ``points`` by length and clients; dates as YYYY-MM-DD."""

    model: str
    gpu: str
    engine: str
    version: str
    precision: str
    tensor_parallel: int
    data_parallel: int
    expert_parallel: int
    moe_tensor_parallel: int
    quantization: str
    points: tuple[Point, ...]
    first_measured: str
    last_measured: str
    data_parallel_stated: bool = True
    alias: str = ""

    @property
    def gpus(self) -> int:
        """GPUs of one instance.

        Where experts are spread (EP) the table has the product of tensor and expert parallelism as its parallelism:
        TP 4 with EP 4 on 4 GPUs is there as 16, as the identifiers of its rows say.
        """
        product = self.tensor_parallel * self.data_parallel
        side = math.isqrt(product)
        squared = (side, side) == (self.moe_tensor_parallel, self.expert_parallel) and self.data_parallel_stated
        both = (side, side, product) == (self.tensor_parallel, self.data_parallel, self.expert_parallel)
        return side if side > 1 and (squared or both) else product

    @property
    def short_model(self) -> str:
        """The model without its owner and without what the precision says anyway, in lower case."""
        bare = self.model.rsplit("/", 1)[-1].lower()
        return re.sub(r"-(instruct|fp8|nvfp4)(?=-|$)", "", bare)

    @property
    def group(self) -> str:
        """GPU, model and engine: ``h100/llama-3.1-70b/vllm``."""
        return f"{self.gpu}/{self.short_model}/{self.engine}"

    @property
    def name(self) -> str:
        """The group, precision, GPUs and how they share the model, version; ``alias`` where that is not unique."""
        split = "dp" if self.data_parallel > 1 else "tp"
        experts = f"ep{self.gpus}" if self.expert_parallel > 1 else ""
        return f"{self.group}/{self.precision}-{split}{self.gpus}{experts}-{self.version}{self.alias}"


def read_points(path: Path) -> list[Configuration]:
    """The aggregated configurations with at least LEAST_POINTS points, by name; ``ValueError`` with one line."""
    try:
        frame = read_table(read_bytes(path), low_memory=False)
    except CannotReadError as error:
        raise ValueError(f"{path}: not readable as CSV ({error}).") from error
    missing = [name for name in NEEDED if name not in frame]
    if missing:
        there = ", ".join(shortened(str(name)) for name in frame.columns[:12])
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {there}.")
    frame = frame[frame["mode"] == "agg"].copy()
    frame["clients"] = frame["silicon_data_source"].astype(str).str.extract(CLIENTS, expand=False).astype(float)
    frame["date"] = frame["silicon_data_source"].astype(str).str.extract(MEASURED, expand=False)
    frame = frame[frame["clients"].notna()]
    for name, most in MOST.items():
        _check(path, frame, name, 0.0 if name.endswith("_ms") else 1.0, most)
    for name in COUNTS:
        _check(path, frame, name, 0.0, MOST_COUNT, empty=True)
    found = [_configuration(rows) for _, rows in frame.groupby(list(KEYS), dropna=False, sort=False)]
    kept = [each for each in found if len(each.points) >= LEAST_POINTS]
    by_quantization = _unique(kept, lambda each, number: each.quantization)
    return sorted(_unique(by_quantization, lambda each, number: str(number)), key=lambda each: each.name)


def _check(path: Path, frame: pd.DataFrame, name: str, low: float, high: float, *, empty: bool = False) -> None:
    """Make the column ``name`` numbers from ``low`` (0: above it, unless it may be ``empty``) to ``high``.

    ``ValueError`` names the first row of the file that has another.
    """
    values = numbers_of(frame[name])
    good = (values >= low) & (values <= high) & (empty or values > 0)
    if empty:
        good |= frame[name].isna().to_numpy()
    if not good.all():
        row = int(np.argmin(good))
        given = shortened(str(frame[name].iloc[row]))
        raise ValueError(
            f"{path}, row {frame.index[row] + 1}: {name}={given} is not allowed: give above 0, at most {high:,.0f}."
        )
    frame[name] = values


def _unique(found: Sequence[Configuration], word: Callable[[Configuration, int], str]) -> list[Configuration]:
    """Where a name is there more than once, ``word`` of the configuration and its number among them is added to it."""
    names, seen, result = Counter(each.name for each in found), Counter[str](), []
    for each in found:
        seen[each.name] += 1
        if names[each.name] > 1:
            each = replace(each, alias=f"{each.alias}-{word(each, seen[each.name])}")
        result.append(each)
    return result


def _configuration(rows: pd.DataFrame) -> Configuration:
    first = rows.iloc[0]
    points = []
    for lengths, same in rows.groupby(["isl", "osl", "clients"]):
        prompt, output, clients = (_count(float(value)) for value in np.asarray(lengths))
        loop = Loop(prompt, output, clients)
        ttft, tpot = same["silicon_ttft_ms"].median(), same["silicon_tpot_ms"].median()
        points.append(Point(loop, float(ttft), float(tpot), len(same)))
    dates = sorted(rows["date"].dropna())
    modes = {str(first[name]) for name in ("gemm_quant_mode", "moe_quant_mode") if not _missing(first[name])}
    return Configuration(
        model=str(first["model_path"]),
        gpu=str(first["system"]).removesuffix("_sxm"),
        engine=str(first["backend"]),
        version="unknown" if _missing(first["backend_version"]) else str(first["backend_version"]),
        precision="unstated" if _missing(first["precision"]) else str(first["precision"]),
        tensor_parallel=_count(first["tp_size"]),
        data_parallel=_count(first["attention_dp_size"]),
        expert_parallel=_count(first["moe_ep_size"]),
        moe_tensor_parallel=_count(first["moe_tp_size"]),
        quantization="+".join(sorted(modes)),
        points=tuple(points),
        first_measured=dates[0] if dates else "",
        last_measured=dates[-1] if dates else "",
        data_parallel_stated=not _missing(first["attention_dp_size"]),
    )


def _missing(value: object) -> bool:
    return value is None or value != value  # NaN


def _count(value: float) -> int:
    return 1 if _missing(value) or value < 1 else int(value)


def total_points(found: Sequence[Configuration]) -> int:
    """Points of all configurations."""
    return sum(len(each.points) for each in found)
