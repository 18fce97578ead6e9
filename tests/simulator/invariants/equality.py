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
                assert packed(ours[name]) == packed(theirs[name]), f"{table}.{name}"
    assert a.itl_histogram.tobytes() == b.itl_histogram.tobytes()


def packed(records: NDArray | np.void) -> bytes:
    """The bytes of every field, without the padding between them, which a copy need not keep."""
    if not records.dtype.names:
        return np.ascontiguousarray(records).tobytes()
    return b"".join(packed(records[name]) for name in records.dtype.names)


Names = tuple[str, ...]


def zeroed(result: RunResult, batches: Names = (), servers: Names = (), running: Names = ()) -> RunResult:
    """``result`` without the fields of BATCH, SERVER and RUNNING_BATCH that are named: what may differ."""
    copy = dataclasses.replace(result, batches=result.batches.copy(), servers=result.servers.copy())
    for array, fields in ((copy.batches, batches), (copy.servers, servers), (copy.servers["batch"], running)):
        for name in fields:
            array[name] = 0
    return copy
