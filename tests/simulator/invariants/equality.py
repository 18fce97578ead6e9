"""Equality of runs, byte for byte, with or without some fields."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from llmsched_env.simulation.result import RunResult


def assert_equal_bytes(a: RunResult, b: RunResult, *, but: tuple[str, ...] = (), bins: bool = True) -> None:
    """Requests, batches, servers and totals are the same bytes, apart from the named request fields."""
    for table in ("requests", "batches", "servers", "lane", *(["bins"] if bins else [])):
        ours, theirs = getattr(a, table), getattr(b, table)
        for name in ours.dtype.names:
            if table != "requests" or name not in but:
                assert ours[name].tobytes() == theirs[name].tobytes(), f"{table}.{name}"
    assert a.itl_histogram.tobytes() == b.itl_histogram.tobytes()


def packed(records: NDArray | np.void) -> bytes:
    """The bytes of every field, without the padding between them, which a copy need not keep."""
    return b"".join(np.ascontiguousarray(records[name]).tobytes() for name in records.dtype.names or ())


Names = tuple[str, ...]


def zeroed(result: RunResult, lane: Names = (), batches: Names = (), servers: Names = ()) -> RunResult:
    """``result`` without the fields named per table: what may differ."""
    copy = dataclasses.replace(
        result, lane=result.lane.copy(), batches=result.batches.copy(), servers=result.servers.copy()
    )
    for array, fields in ((copy.lane, lane), (copy.batches, batches), (copy.servers, servers)):
        for name in fields:
            array[name] = 0
    return copy
