"""The measured grids of a profile of the form `table`: checked, and laid out for the compiled law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from llmsched_env.core.constants import LAW_NUMBERS

FIELDS = ("batch", "context", "decode_ms", "tokens", "prefill_ms")
"""Fields of ``grids`` in the JSON of a profile."""

LARGEST = 1e300
"""Largest point and time: products stay finite."""

OTHER_NUMBERS = 4
"""Numbers of the law beside the grids: the three sizes and p2."""


@dataclass(frozen=True)
class Grids:
    """Times of a decode step and of a prefill at measured points.

    ``decode_ms[i][j]``: ms of a decode step of ``batch[i]`` members with ``context[j]`` tokens each;
    ``prefill_ms[k]``: ms of a prefill of ``tokens[k]`` tokens in all.  Points ascend.  ``ValueError`` names what is
    wrong, in one line.
    """

    batch: tuple[float, ...]
    context: tuple[float, ...]
    decode_ms: tuple[tuple[float, ...], ...]
    tokens: tuple[float, ...]
    prefill_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, least in (("batch", 1.0), ("context", 0.0), ("tokens", 1.0)):
            _check_points(name, getattr(self, name), least)
        if len(self.decode_ms) != len(self.batch):
            raise ValueError(
                f"grids.decode_ms has {len(self.decode_ms)} rows for {len(self.batch)} batches: give a row for each."
            )
        for size, row in zip(self.batch, self.decode_ms, strict=True):
            _check_times(f"grids.decode_ms at batch {size:g}", row, len(self.context), "contexts")
        _check_times("grids.prefill_ms", self.prefill_ms, len(self.tokens), "tokens")
        most = LAW_NUMBERS - OTHER_NUMBERS
        if self.size > most:
            raise ValueError(f"grids has {self.size} numbers: at most {most} are possible, leave out some points.")

    @property
    def size(self) -> int:
        """Numbers in all."""
        return len(self.batch) * (1 + len(self.context)) + len(self.context) + 2 * len(self.tokens)

    @classmethod
    def from_json(cls, raw: Any) -> Grids:
        """The grids of a profile's JSON; ``ValueError`` with one line."""
        if type(raw) is not dict:
            raise ValueError(f"grids={raw!r} is not allowed: give an object with {', '.join(FIELDS)}.")
        for name in FIELDS:
            if name not in raw:
                raise ValueError(f"grids.{name} is missing: the form table needs {', '.join(FIELDS)}.")
            if not isinstance(raw[name], list):
                raise ValueError(f"grids.{name}={raw[name]!r} is not allowed: give a list.")
        for name in raw:
            if name not in FIELDS:
                raise ValueError(f"grids.{name} is not known: the form table has {', '.join(FIELDS)}.")
        rows = raw["decode_ms"]
        if not all(isinstance(row, list) for row in rows):
            raise ValueError("grids.decode_ms is not a list of lists: give a row of times for each batch.")
        return cls(
            tuple(raw["batch"]),
            tuple(raw["context"]),
            tuple(tuple(row) for row in rows),
            tuple(raw["tokens"]),
            tuple(raw["prefill_ms"]),
        )

    def as_json(self) -> dict[str, Any]:
        """As ``from_json`` reads it."""
        return {name: _lists(getattr(self, name)) for name in FIELDS}

    def numbers(self, p2: float, unit: float) -> list[float]:
        """The grids and p2 as core.latency_table reads them, times in ms times ``unit``.

        A decode step never gets shorter as the context grows: where a measured time falls, the longest so far stands.
        """
        rising = [unit * ms for row in self.decode_ms for ms in accumulate(row, max)]
        sizes = [len(self.batch), len(self.context), len(self.tokens)]
        prefill = [unit * ms for ms in self.prefill_ms]
        return [*map(float, sizes), unit * p2, *self.batch, *self.context, *rising, *self.tokens, *prefill]


def _lists(value: Sequence) -> list:
    return [_lists(item) if isinstance(item, tuple) else item for item in value]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _check_points(name: str, values: Sequence[Any], least: float) -> None:
    if not values:
        raise ValueError(f"grids.{name} is empty: give at least one point.")
    for value in values:
        if not _number(value) or value < least:
            raise ValueError(f"grids.{name} has {value!r}: give numbers of at least {least:g}.")
    for low, high in pairwise(values):
        if low == high:
            raise ValueError(f"grids.{name} has {low:g} twice: give every point once.")
        if low > high:
            raise ValueError(f"grids.{name} is not ascending at {low:g}, {high:g}: give the points in order.")


def _check_times(what: str, values: Sequence[Any], count: int, points: str) -> None:
    if len(values) != count:
        raise ValueError(f"{what} has {len(values)} times for {count} {points}: fill the hole or leave out the point.")
    for value in values:
        if not _number(value) or value <= 0:
            raise ValueError(f"{what} has {value!r}: give ms above 0 at every point.")


def grid_from_points(points: Mapping[tuple[float, float], float]) -> tuple[list[float], list[float], list[list[float]]]:
    """(batches, contexts, ms) of measured ``points``, ms by (batch, context); ``ValueError`` names the first hole."""
    batches, contexts = (sorted({point[axis] for point in points}) for axis in (0, 1))
    for size in batches:
        for context in contexts:
            if (size, context) not in points:
                raise ValueError(f"no time at batch {size:g}, context {context:g}: a table needs every pair.")
    return batches, contexts, [[points[size, context] for context in contexts] for size in batches]
