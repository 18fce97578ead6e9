"""The arrays of a simulator, in one table: what each holds, its type and its shape.

Types and allocation are made from TABLE, and the view of one lane follows it.  Behind a name in the shape stands a
number of Sizes; an array whose shape begins with "lanes" is state and has a row for every lane, another one holds
parameters.
"""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit, typeof, types
from numpy.typing import NDArray

from llmsched_env.compiler.borrow import borrow
from llmsched_env.compiler.by_reference import by_reference
from llmsched_env.compiler.parts import jit_is_off
from llmsched_env.core.layout import (
    BATCH,
    BIN,
    CHAIN,
    ENTRY,
    EXPIRY,
    EXTENT,
    HARDWARE,
    LANE,
    LINK,
    PARAMS,
    POOL,
    RELEASE,
    REQUEST,
    SERVER,
    SLO_ROW,
    SLOT,
)


@dataclass(frozen=True)
class Sizes:
    """Lengths of the axes of a simulator's arrays.

    ``rows`` of BIN, the controller of `any` included; ``queues``: rows that are queues; ``keyed`` (``expiring``):
    entries of each heap of a queue (of EXPIRY); ``set_size``: members of a running set; ``log``: batches that can be
    logged; ``gaps``: bins of the histogram of gaps between tokens.  With a prefix cache ``chained``: requests;
    ``pools``: servers; ``blocks`` and ``buckets`` of a server; ``hashes`` and ``tabled`` of all requests.  ``planned``:
    requests of a plan of sessions, also ``planned_chained`` with a prefix cache.  What a simulator has no use for has
    length 0 or 1.
    """

    lanes: int
    servers: int
    rows: int
    capacity: int
    classes: int
    max_batch: int
    queues: int = 1
    keyed: int = 1
    expiring: int = 1
    set_servers: int = 1
    set_size: int = 1
    log: int = 0
    gaps: int = 0
    chained: int = 1
    pools: int = 1
    blocks: int = 1
    buckets: int = 1
    hashes: int = 1
    tabled: int = 1
    planned: int = 1
    planned_chained: int = 1


class ArraySpec(NamedTuple):
    """One array: ``kind`` of its elements, names of its axes."""

    name: str
    kind: Any
    shape: tuple[str, ...]
    meaning: str

    @property
    def by_lane(self) -> bool:
        """Whether every lane has a part of its own."""
        return self.shape[0] == "lanes"


TABLE = (
    ArraySpec("params", PARAMS, ("one",), "what stays as it is"),
    ArraySpec("hardware", HARDWARE, ("servers",), "the servers' latency law and memory"),
    ArraySpec("lane", LANE, ("lanes",), "the clock, what is asked, the counts"),
    ArraySpec("bins", BIN, ("lanes", "rows"), "queues group by group (queueing.queues), then the controller of `any`"),
    ArraySpec("servers", SERVER, ("lanes", "servers"), "what every server does"),
    ArraySpec("requests", REQUEST, ("lanes", "capacity"), "request i is row i"),
    ArraySpec("heap", np.int32, ("lanes", "queues", "keyed"), "request numbers of bins that are ordered by a key"),
    ArraySpec("slos", SLO_ROW, ("lanes", "classes"), "targets, and how far deadlines were looked at"),
    ArraySpec("members", np.int32, ("lanes", "max_batch"), "room for the batch that is being formed"),
    ArraySpec("log", BATCH, ("lanes", "log"), "the batches, where they are logged"),
    ArraySpec("gaps", np.int64, ("lanes", "gaps"), "histogram of the gaps between tokens, where it is kept"),
    ArraySpec("slots", SLOT, ("lanes", "set_servers", "set_size"), "decoding members of every server"),
    ArraySpec("expiry", EXPIRY, ("lanes", "expiring"), "when waiting requests become overdue"),
    ArraySpec("chains", CHAIN, ("lanes", "chained"), "request i as the prefix cache sees it"),
    ArraySpec("pools", POOL, ("lanes", "pools"), "the prefix cache of every server"),
    ArraySpec("extents", EXTENT, ("lanes", "pools", "blocks"), "... its blocks, those that go together as one"),
    ArraySpec("buckets", np.int32, ("lanes", "pools", "buckets"), "... 1 + the first extent of each list of names"),
    ArraySpec("hashes", np.int64, ("lanes", "hashes"), "hashes of the requests, one after the other"),
    ArraySpec("tables", ENTRY, ("lanes", "tabled"), "blocks that the requests refer to, one after the other"),
    ArraySpec("plan", REQUEST, ("lanes", "planned"), "requests of sessions, before they arrive"),
    ArraySpec("plan_chains", CHAIN, ("lanes", "planned_chained"), "... as the prefix cache sees them"),
    ArraySpec("links", LINK, ("lanes", "planned"), "... what releases them"),
    ArraySpec("releases", RELEASE, ("lanes", "planned"), "... when they arrive"),
)

NAMES = tuple(spec.name for spec in TABLE)

Arrays: Any = namedtuple("Arrays", NAMES)  # type: ignore[misc]
"""The arrays of all lanes."""

State: Any = namedtuple("State", [*NAMES, "counts"])  # type: ignore[misc]
"""One lane as the kernels see it: the same names without the axis of lanes; ``counts`` is LANE.counts."""

ARRAYS = types.NamedTuple([typeof(np.zeros((1,) * len(spec.shape), spec.kind)) for spec in TABLE], Arrays)
"""The type of the arrays."""


def records(array: NDArray) -> NDArray:
    """Rows with attribute access, which compiled code has anyway and plain NumPy rows have not."""
    return array.view(np.recarray) if jit_is_off() and array.dtype.names else array


def shape_of(spec: ArraySpec, sizes: Sizes) -> tuple[int, ...]:
    """The shape of an array."""
    axes = {"one": 1, **vars(sizes)}
    return tuple(axes[name] for name in spec.shape)


def bytes_of(sizes: Sizes) -> int:
    """Bytes that ``allocate`` takes."""
    return sum(math.prod(shape_of(spec, sizes)) * np.dtype(spec.kind).itemsize for spec in TABLE)


def allocate(sizes: Sizes) -> Any:
    """Arrays of zeros."""
    return Arrays(*(records(np.zeros(shape_of(spec, sizes), spec.kind)) for spec in TABLE))


@njit(inline="always")  # a State holds records, which a compiled function cannot return
def lane_state(arrays, i):
    """Lane ``i`` of the arrays, a State: one line for each row of TABLE, in its order (a test holds it)."""
    lane = borrow(arrays.lane)[i]
    found = State(  # type: ignore[call-arg]
        borrow(arrays.params)[0],
        borrow(arrays.hardware),
        lane,
        borrow(arrays.bins[i]),
        borrow(arrays.servers[i]),
        borrow(arrays.requests[i]),
        borrow(arrays.heap[i]),
        borrow(arrays.slos[i]),
        borrow(arrays.members[i]),
        borrow(arrays.log[i]),
        borrow(arrays.gaps[i]),
        borrow(arrays.slots[i]),
        borrow(arrays.expiry[i]),
        borrow(arrays.chains[i]),
        borrow(arrays.pools[i]),
        borrow(arrays.extents[i]),
        borrow(arrays.buckets[i]),
        borrow(arrays.hashes[i]),
        borrow(arrays.tables[i]),
        borrow(arrays.plan[i]),
        borrow(arrays.plan_chains[i]),
        borrow(arrays.links[i]),
        borrow(arrays.releases[i]),
        lane.counts,
    )
    return by_reference(found)
