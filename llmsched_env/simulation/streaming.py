"""Runs of any length in fixed memory: requests come in chunks, ended ones leave, live ones are carried over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig
from llmsched_env.core import layout
from llmsched_env.requests import Requests
from llmsched_env.simulation.result import RunResult, Watch
from llmsched_env.simulation.route_call import RouteCall
from llmsched_env.simulation.simulator import Simulator, fill_rows, finish_rows


def simulate_stream(
    config: SimConfig,
    chunks: Iterable[Requests],
    decide: Callable,
    *,
    params: Sequence[float] = (),
    memory_size: int = 0,
    rng: np.random.Generator | None = None,
    details: bool = False,
    noise_key: int = 0,
    warmup: int = 0,
    route: RouteCall | None = None,
    watch: Watch | None = None,
) -> Iterator[RunResult]:
    """Simulate requests that come in ``chunks`` (arrivals ascend across chunks); yield what ended, chunk by chunk.

    Each RunResult holds the requests that ended since the last one, in order of number, and the totals since the
    start: what ``metrics.Accumulator`` takes.  The run is the one that ``simulate`` makes of all chunks
    together, stamp for stamp.  Memory grows with the requests in the system and the chunk, not with the run.  ``watch``
    tells other threads how far the run is, if it was told how long the run is.
    """
    feed = iter(chunks)
    first = next(feed, None)
    if first is None:
        raise ValueError("no chunks: give at least one.")
    upcoming: Requests | None = first
    simulator = Simulator(config, 2 * len(first), gaps=True)
    simulator.load(0, first.part(0, 0), final=False, noise_key=noise_key, warmup=warmup)
    memory, values = np.zeros(max(1, memory_size)), np.asarray(params, dtype=np.float64)
    generator = np.random.default_rng(0) if rng is None else rng
    while upcoming is not None:
        simulator = append(simulator, upcoming)
        upcoming = next(feed, None)
        simulator.lane[0]["final"] = upcoming is None
        if watch is not None:
            watch.follow(simulator.lane, until_s=config.horizon_s)
        began = time.perf_counter()
        simulator.run(decide, values, memory, generator, details=details, route=route)
        wall_s = time.perf_counter() - began
        ended, unscored, cached = harvest(simulator, everything=upcoming is None)
        yield RunResult(
            config,
            ended,
            simulator.log[0],
            simulator.bins[0].copy(),
            simulator.servers[0].copy(),
            simulator.lane[0].copy(),
            simulator.gaps[0].copy(),
            wall_s,
            unscored,
            None if cached is None else simulator.arrays.pools[0].copy(),
            cached,
        )


def append(simulator: Simulator, requests: Requests) -> Simulator:
    """Load ``requests`` behind the live ones, into a larger simulator where they do not fit."""
    loaded = int(simulator.lane[0]["loaded"])
    if requests.linked:
        raise ValueError(
            "sessions and closed loops are not streamed, their arrivals depend on answers: run them whole."
        )
    if loaded + len(requests) > simulator.capacity:
        larger = Simulator(simulator.config, 2 * (loaded + len(requests)), gaps=True)
        for name in ("lane", "bins", "servers", "slos", "gaps", "slots"):
            getattr(larger, name)[...] = getattr(simulator, name)
        larger.requests[0, :loaded] = simulator.requests[0, :loaded]
        if larger.chained is not None and simulator.chained is not None:
            larger.take_cache(simulator, loaded)
        if larger.heap.shape[2] > 1:
            larger.heap[0, :, :loaded] = simulator.heap[0, :, :loaded]
        if len(larger.expiry[0]) > 1:
            larger.expiry[0, :loaded] = simulator.expiry[0, :loaded]
        simulator = larger
    fill_rows(simulator.requests[0, loaded : loaded + len(requests)], simulator.config, simulator.edges, requests)
    if simulator.chained is not None:
        simulator.arrays = simulator.chained.append(simulator.arrays, 0, requests, loaded)
    simulator.lane[0]["loaded"] = loaded + len(requests)
    return simulator


def harvest(simulator: Simulator, *, everything: bool) -> tuple[NDArray, int, NDArray[np.int64] | None]:
    """Take the requests that have ended (or all) out of the arrays and renumber the live ones from 0.

    Returns them in order of number, how many of them (the first) are warm-up, and the tokens that each found in a
    prefix cache (None: there is none).
    """
    lane, servers = simulator.lane[0], simulator.servers[0]
    rows = simulator.requests[0, : int(lane["loaded"])]
    live = (rows["status"] == layout.WAITING) | (rows["status"] == layout.PENDING)
    live |= simulator.engine.in_service(rows, servers)
    if everything:
        live[:] = False
    ended = rows[~live].copy()
    finish_rows(simulator.engine, ended, servers, float(lane["now"]))
    number = np.where(live, np.cumsum(live) - 1, layout.NONE).astype(np.int32)
    kept = rows[live].copy()
    for link in ("next", "prev"):
        kept[link] = _renumber(kept[link], number)
    rows[: len(kept)] = kept
    for table, names in (
        (simulator.bins[0], ("head", "tail", "last_preempted")),
        (servers["batch"], ("preempted_head", "preempted_tail", "drop")),
        (servers["set"], ("prefill_head", "prefill_tail")),
        (simulator.slots[0], ("request",)),
    ):
        for name in names:
            table[name] = _renumber(table[name], number)
    if simulator.heap.shape[2] > 1:
        _keep_keyed(simulator, kept, number)
    _keep_scheduled(simulator, kept, number)
    cached = None if simulator.chained is None else simulator.chained.keep(simulator.arrays, live, number)[~live]
    warmup = int(lane["warmup"])
    simulator.lane[0]["warmup"] = np.count_nonzero(live[:warmup]) + max(0, warmup - len(live))
    simulator.lane[0]["loaded"] = simulator.lane[0]["next_arrival"] = len(kept)
    simulator.lane[0]["oldest"] = simulator.lane[0]["patient"] = 0
    return ended, int(np.count_nonzero(~live[:warmup])), cached


def _keep_keyed(simulator: Simulator, kept: NDArray, number: NDArray[np.int32]) -> None:
    """Drop from the heaps of the bins requests that became overdue, and may have ended; new numbers for the others."""
    for k, row in enumerate(simulator.bins[0][:-1]):
        heap = simulator.heap[0, k]
        entries = _renumber(heap[: row["heap_size"]], number)
        entries = entries[entries != layout.NONE]
        entries = entries[kept["overdue"][entries] == 0]
        row["heap_size"] = len(entries)
        heap[: len(entries)] = entries[np.lexsort((entries, kept["key"][entries]))]


def _keep_scheduled(simulator: Simulator, kept: NDArray, number: NDArray[np.int32]) -> None:
    """Drop from the heap of requests that become overdue those that wait no more; new numbers for the others."""
    entries = simulator.expiry[0, : int(simulator.lane[0]["expiring"])].copy()
    entries["request"] = _renumber(entries["request"], number)
    entries = entries[entries["request"] != layout.NONE]
    entries = entries[kept["status"][entries["request"]] == layout.WAITING]
    simulator.expiry[0, : len(entries)] = entries[np.lexsort((entries["request"], entries["at"]))]
    simulator.lane[0]["expiring"] = len(entries)


def _renumber(values: NDArray, number: NDArray[np.int32]) -> NDArray:
    """New numbers of requests ``values``; NONE stays, and what points to an ended request becomes NONE."""
    return np.where(values == layout.NONE, layout.NONE, number[values])
