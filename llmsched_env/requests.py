"""The requests of one run, as arrays: what a workload is to the simulator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core.constants import BLOCK_TOKENS
from llmsched_env.files.showing import shortened

MAX_TOKENS = 2**31 - 1
"""Largest prompt or output length a request record can hold."""

MAX_CLASSES = 128

MAX_HASH = 2**63

MAX_CLIENTS = 10**6
"""Most clients of a closed loop."""


_COLUMNS = (
    *("arrival_s", "prompt_tokens", "output_tokens", "predicted_tokens", "slo_class"),
    *("hashes", "hashed_tokens"),
)


@dataclass(frozen=True)
class Requests:
    """Arrays of one length N, sorted by arrival; row i is request number i.

    ``arrival_s`` float64 seconds; ``prompt_tokens``, ``output_tokens``, ``predicted_tokens`` int32, all
    at least 1; ``slo_class`` int8.  ``output_tokens`` is the truth that no scheduler sees.
    Anything array-like is taken, and copied where it has another dtype; ``ValueError`` names the first bad row.

    What the tokens are, for the prefix cache, where it is known: ``hashes`` (M,) int64, those of request 0, then of
    request 1, ...; ``hashed_tokens`` (N,) int32, how many of a request's tokens (its prompt, then its output) they
    cover; ``hash_tokens``, the tokens of one hash, a multiple of 16.  Request i has
    ceil(hashed_tokens[i] / hash_tokens) of them.  Equal hashes mean equal tokens after equal tokens
    (docs/reference/continuous.md, 11).

    Sessions (docs/reference/semantics.md, 15): ``parent`` (N,) int32, the earlier request whose end releases this one,
    or -1; ``think_s`` (N,) float64, at least 0, from that end to its arrival.  Where a parent is given ``arrival_s`` is
    only an order, and row i is number i of the plan: requests get their numbers as they arrive.  ``concurrency``, where
    above 0, is the number of clients of a closed loop: each sends the next session when all requests of its last one
    have ended, ``think_s`` of its first request later.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    predicted_tokens: NDArray[np.int32]
    slo_class: NDArray[np.int8]
    hashes: NDArray[np.int64] | None = None
    hashed_tokens: NDArray[np.int32] | None = None
    hash_tokens: int = BLOCK_TOKENS
    parent: NDArray[np.int32] | None = None
    think_s: NDArray[np.float64] | None = None
    concurrency: int = 0

    def __post_init__(self) -> None:
        arrival = _owned("arrival_s", self.arrival_s, np.float64)
        if arrival.ndim != 1:
            raise ValueError(f"arrival_s has shape {arrival.shape}: give one row of times.")
        if len(arrival) and not (arrival[0] >= 0 and np.isfinite(arrival[-1]) and _ascending(arrival)):
            _first_bad(~np.isfinite(arrival) | (arrival < 0), "arrival_s", arrival, "a finite time of at least 0")
            later = np.r_[False, np.diff(arrival) < 0]
            _first_bad(later, "arrival_s", arrival, "arrivals in ascending order (sort them)")
        object.__setattr__(self, "arrival_s", arrival)
        for name in ("prompt_tokens", "output_tokens", "predicted_tokens"):
            wanted = f"a whole number from 1 to {MAX_TOKENS}"
            object.__setattr__(self, name, _column(name, getattr(self, name), len(arrival), 1, MAX_TOKENS, wanted))
        wanted = f"a class number from 0 to {MAX_CLASSES - 1}"
        classes = _column("slo_class", self.slo_class, len(arrival), 0, MAX_CLASSES - 1, wanted, np.int8)
        object.__setattr__(self, "slo_class", classes)
        if self.hashes is not None or self.hashed_tokens is not None:
            self._check_hashes()
        if self.linked or self.think_s is not None:
            self._check_links()

    def _check_links(self) -> None:
        n = len(self)
        check_concurrency(self.concurrency)
        if self.parent is not None:
            wanted = "the number of an earlier request, or -1"
            parent = _column("parent", self.parent, n, -1, MAX_TOKENS, wanted)
            _first_bad(parent >= np.arange(n), "parent", parent, wanted)
            object.__setattr__(self, "parent", parent)
        if self.think_s is not None:
            think = _owned("think_s", self.think_s, np.float64)
            if think.shape != (n,):
                raise ValueError(f"think_s has shape {think.shape}: give {n} values, one per arrival.")
            _first_bad(~np.isfinite(think) | (think < 0), "think_s", think, "a finite time of at least 0")
            object.__setattr__(self, "think_s", think)

    @property
    def linked(self) -> bool:
        """Whether arrivals depend on answers: there are sessions, or a closed loop."""
        return self.parent is not None or self.concurrency != 0

    @cached_property
    def session(self) -> NDArray[np.int64]:
        """The first request of the session of every request (N,)."""
        first = np.arange(len(self))
        if self.parent is not None:
            for row in np.flatnonzero(self.parent >= 0):  # a parent comes before its children
                first[row] = first[self.parent[row]]
        return first

    def _check_hashes(self) -> None:
        if self.hashes is None or self.hashed_tokens is None:
            raise ValueError("hashes and hashed_tokens go together: give both, or none of them.")
        span = self.hash_tokens
        if isinstance(span, bool) or not isinstance(span, int) or span < BLOCK_TOKENS or span % BLOCK_TOKENS:
            raise ValueError(f"hash_tokens={shortened(str(span))} is not allowed: give a multiple of {BLOCK_TOKENS}.")
        most = self.prompt_tokens.astype(np.int64) + self.output_tokens
        wanted = "a whole number from 0 to the request's prompt and output"
        covered = _column("hashed_tokens", self.hashed_tokens, len(self), 0, 2 * MAX_TOKENS, wanted, np.int64)
        _first_bad(covered > most, "hashed_tokens", covered, wanted)
        object.__setattr__(self, "hashed_tokens", covered.astype(np.int32))
        hashes = np.asarray(self.hashes)
        count = int(self.hash_offsets[-1])
        wanted = f"a whole number of 64 bits, {count} in all: one for every {span} of hashed_tokens"
        found = _column("hashes", hashes, count, -MAX_HASH, MAX_HASH - 1, wanted, np.int64)
        object.__setattr__(self, "hashes", found)

    @classmethod
    def joined(cls, parts: Sequence[Requests]) -> Requests:
        """All of ``parts`` (at least one), which follow each other; all have hashes, of one size, or none has."""
        names = [name for name in _COLUMNS if getattr(parts[0], name) is not None]
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**columns, hash_tokens=parts[0].hash_tokens)

    @property
    def hash_offsets(self) -> NDArray[np.int64]:
        """Places in ``hashes`` (N + 1,): those of request i begin at the i-th and end before the next."""
        assert self.hashed_tokens is not None
        counts = -(-self.hashed_tokens.astype(np.int64) // self.hash_tokens)
        return np.concatenate(([0], np.cumsum(counts)))

    def part(self, first: int, last: int, start_s: float = 0.0) -> Requests:
        """Requests first, ..., last - 1 with their hashes; ``start_s`` becomes time 0."""
        if (
            self.hashes is None
            and not self.linked
            and 0.0 <= start_s <= (self.arrival_s[first] if first < min(last, len(self)) else math.inf)
        ):
            return self._plain_part(first, last, start_s)
        if self.linked and (first > 0 or start_s != 0.0):
            raise ValueError("sessions are not cut into parts: give all of them, or the first requests.")
        rows, found = slice(first, last), None
        if self.hashes is not None and self.hashed_tokens is not None:
            offsets = self.hash_offsets
            found = self.hashes[offsets[first] : offsets[max(first, min(last, len(self)))]]
        return Requests(
            self.arrival_s[rows] - start_s,
            self.prompt_tokens[rows],
            self.output_tokens[rows],
            self.predicted_tokens[rows],
            self.slo_class[rows],
            found,
            None if self.hashed_tokens is None else self.hashed_tokens[rows],
            self.hash_tokens,
            None if self.parent is None else self.parent[rows],
            None if self.think_s is None else self.think_s[rows],
            self.concurrency,
        )

    def _plain_part(self, first: int, last: int, start_s: float) -> Requests:
        """`part` without hashes: parts of checked columns need no second look (a third of the time of a reset)."""
        found = object.__new__(Requests)
        columns = {name: getattr(self, name)[first:last] for name in _COLUMNS[:5]}
        columns["arrival_s"] = columns["arrival_s"] - start_s
        found.__dict__.update(columns, hashes=None, hashed_tokens=None, hash_tokens=self.hash_tokens)
        found.__dict__.update(parent=None, think_s=None, concurrency=0)
        return found

    def __len__(self) -> int:
        return len(self.arrival_s)

    @classmethod
    def checked(cls, arrival_s, prompt_tokens, output_tokens, predicted_tokens=None, slo_class=None) -> Requests:
        """Build from at least one row.

        Without ``predicted_tokens`` the prediction is the truth; without ``slo_class`` all are class 0.
        """
        if len(np.atleast_1d(arrival_s)) == 0:
            raise ValueError("no requests: give at least one.")
        predicted = output_tokens if predicted_tokens is None else predicted_tokens
        classes = np.zeros(len(np.atleast_1d(arrival_s)), np.int8) if slo_class is None else slo_class
        return cls(arrival_s, prompt_tokens, output_tokens, predicted, classes)


def check_concurrency(value: Any) -> None:
    """``ValueError`` unless ``value`` is a number of clients, or 0: no closed loop."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= MAX_CLIENTS:
        raise ValueError(f"concurrency={shortened(str(value))} is not allowed: give 1 to {MAX_CLIENTS:,} clients.")


def _ascending(values: NDArray[np.float64]) -> bool:
    """Whether no value is below the one before it; False where one is NaN."""
    return bool((values[1:] >= values[:-1]).all())


def _column(name: str, values: Any, n: int, low: int, high: int, wanted: str, dtype: Any = np.int32) -> NDArray:
    """``values`` (n,) as whole numbers from ``low`` to ``high``; ``ValueError`` for anything else, truth values too."""
    array = np.asarray(_as_given(values))
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}: give {n} values, one per arrival.")
    if array.dtype.kind not in "iu":
        _first_bad(_not_whole(array), name, array, wanted)
    if n and not (array.min() >= low and array.max() <= high):
        _first_bad(~((array >= low) & (array <= high)), name, array, wanted)
    return _owned(name, array, dtype)


def _as_given(values: Any) -> Any:
    """``values``; a list that holds truth values as objects: an array would take them for 0 and 1 in silence."""
    if isinstance(values, list | tuple) and any(isinstance(value, bool | np.bool_) for value in values):
        return np.array(values, dtype=object)
    return values


def _not_whole(array: NDArray) -> NDArray[np.bool_]:
    if array.dtype.kind == "f":
        return ~(np.isfinite(array) & (array == np.floor(array)))
    whole = [isinstance(value, int | np.integer) and not isinstance(value, bool) for value in array.tolist()]
    return ~np.array(whole, dtype=bool)


def _owned(name: str, values: Any, dtype: Any) -> NDArray:
    """As an array the kernels take: contiguous and writeable (a column of a data frame may be read-only: copied)."""
    try:
        found = np.asarray(_as_given(values))
        if found.dtype.kind in "bOSUc":
            found = np.array([_number(value) for value in found.ravel().tolist()], np.float64).reshape(found.shape)
        return np.require(found, dtype, ["C", "W"])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is not a row of numbers: give one.") from None


def _number(value: Any) -> Any:
    if isinstance(value, bool | np.bool_ | str | bytes | complex):
        raise TypeError(value)
    return value


def _first_bad(bad: NDArray[np.bool_], name: str, values: NDArray, wanted: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name}[{row}]={shortened(str(values[row]))} is not allowed: give {wanted}.")
