"""The simulator: owns the state arrays, loads requests, and is the only caller of the kernels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env import engines
from llmsched_env.config import SimConfig
from llmsched_env.core import layout
from llmsched_env.core.load import rows_loader
from llmsched_env.core.state import Sizes, allocate, bytes_of, records
from llmsched_env.engines.engine import Engine
from llmsched_env.requests import Requests
from llmsched_env.simulation.chains import Chains, cache_sizes
from llmsched_env.simulation.compiled_calls import Pace, call_compiled
from llmsched_env.simulation.disciplines import CLASS_STEP, key_rate, keys, planned_keys
from llmsched_env.simulation.memory import check_memory
from llmsched_env.simulation.plans import load_plan, planned_numbers, show_unsent
from llmsched_env.simulation.result import RunResult, Watch
from llmsched_env.simulation.route_call import RouteCall, entry_of
from llmsched_env.simulation.templates import bin_rows, hardware_rows, lane_row, param_row, server_rows, slo_rows

MOST_TICKS = 2.0**50
"""Most ticks until the last arrival; a time in float64 tells 2^53 of them apart."""


def log_rows(config: SimConfig, requests: int) -> int:
    """Rows of the log that a run of so many requests needs at most."""
    return engines.get(config.engine).log_rows * requests


def _bytes(array: NDArray, lanes: int) -> NDArray[np.uint8]:
    """``array`` as the bytes of every lane, (lanes, size): copying field by field takes much longer."""
    return array.reshape(lanes, -1).view(np.ndarray).view(np.uint8)


def sizes_of(config: SimConfig, capacity: int, lanes: int, log: int, gaps: bool) -> Sizes:
    """The axes of a simulator's arrays."""
    queueing, set_size = config.queueing, engines.get(config.engine).set_size(config)
    queues, keyed = config.groups * queueing.num_queues, queueing.keyed
    return Sizes(
        lanes,
        servers=len(config.servers),
        rows=queues + 1,
        capacity=capacity,
        classes=len(config.slos),
        max_batch=config.max_batch,
        queues=queues if keyed else 1,
        keyed=capacity if keyed else 1,
        expiring=capacity if queueing.has_overdue or queueing.refuses_overdue else 1,
        set_servers=len(config.servers) if set_size else 1,
        set_size=set_size or 1,
        log=log,
        gaps=layout.ITL_BINS if gaps else 0,
        **cache_sizes(config, capacity),
    )


class Simulator:
    """N independent lanes of one configuration.

    Memory is taken once, for ``capacity`` requests a lane; loading and running allocate nothing.
    """

    def __init__(
        self, config: SimConfig, capacity: int, *, lanes: int = 1, log: int = 0, gaps: bool = False, track: bool = False
    ) -> None:
        self.engine = engines.get(config.engine)
        sizes = sizes_of(config, capacity, lanes, log, gaps)
        check_memory(f"{lanes:,} x {capacity:,} requests", bytes_of(sizes))
        self.config = config
        self.capacity = capacity
        self.edges = np.asarray(config.queueing.edges, dtype=np.int64)
        self.arrays = allocate(sizes)
        self.lane, self.bins, self.servers = self.arrays.lane, self.arrays.bins, self.arrays.servers
        self.requests, self.heap, self.slos = self.arrays.requests, self.arrays.heap, self.arrays.slos
        self.log, self.gaps = self.arrays.log, self.arrays.gaps
        self.slots, self.expiry = self.arrays.slots, self.arrays.expiry
        self.record = records(np.zeros(1, layout.RECORD))
        self.arrays.params[:] = param_row(config, track)
        self.arrays.params["key_rate"] = key_rate(config)
        self.arrays.params["class_step"] = CLASS_STEP * (config.queueing.class_priority == "strict")
        self.arrays.hardware[:] = hardware_rows(config)
        self.chained = Chains(config) if self.arrays.params[0]["cached"] else None
        blank = lane_row(config), bin_rows(config, self.arrays.params), server_rows(config), slo_rows(config)
        self._blank = [_bytes(rows, 1)[0] for rows in blank]
        self._view()

    def _view(self) -> None:
        own = self.lane, self.bins, self.servers, self.slos
        self._own = [_bytes(array, len(self.lane)) for array in own]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_own"}  # a copied view views nothing

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()

    def load(self, lane: int, requests: Requests, *, final: int = 1, noise_key: int = 0, warmup: int = 0) -> None:
        """Put lane ``lane`` before its first event with these requests (at most ``capacity``); see layout.LANE."""
        n = len(requests)
        if n > self.capacity:
            raise ValueError(f"{n} requests do not fit: this simulator was made for {self.capacity}.")
        for rows, blank in zip(self._own, self._blank, strict=True):
            rows[lane] = blank
        self.gaps[lane] = 0
        self._check_tick(float(requests.arrival_s[-1]) if n else 0.0)
        fill_rows(self.requests[lane, :n], self.config, self.edges, requests)
        row = self.lane[lane : lane + 1]
        row["loaded"], row["final"], row["noise_key"], row["warmup"] = n, final, noise_key, warmup
        if self.chained is not None:
            self.arrays = self.chained.load(self.arrays, lane, requests)
        if requests.linked:
            self.arrays = load_plan(self.arrays, lane, requests, planned_keys(self.config, requests))

    def take_cache(self, other: Simulator, loaded: int) -> None:
        """Take over the prefix cache of a smaller simulator with ``loaded`` requests in its only lane."""
        self.chained, old = other.chained, other.arrays
        self.arrays = self.arrays._replace(
            pools=old.pools, extents=old.extents, buckets=old.buckets, hashes=old.hashes, tables=old.tables
        )
        self.arrays.chains[0, :loaded] = old.chains[0, :loaded]

    def _check_tick(self, last_s: float) -> None:
        """Refuse a tick so short that times have no such fractions: the clock would stand still."""
        tick = self.config.queueing.tick_s
        if last_s / tick > MOST_TICKS:
            raise ValueError(f"tick={tick:g} s is too short for arrivals until {last_s:g} s: give a longer one.")

    def run(
        self,
        decide: Callable,
        params: NDArray[np.float64],
        memory: NDArray[np.float64],
        rng: np.random.Generator,
        *,
        details: bool = False,
        route: RouteCall | None = None,
    ) -> int:
        """Run lane 0 under a compiled policy until it stops; returns layout.DRAINED, HORIZON or NEED_MORE.

        ``route``: the routing policy, where config.continuous.routing is "asked".  Raises ``ValueError`` when a policy
        answers a bin, a size or a server that does not exist.
        """
        status, pace = layout.DECIDE, Pace()
        entry, routed = entry_of(self.engine, self.config, route)
        asked = entry, self.arrays, self.record, decide, params, memory, rng, details, *routed
        while status == layout.DECIDE:
            began = time.perf_counter()
            try:
                status, choice, size = call_compiled(*asked, pace.decisions)
            except Exception as error:  # the kernel raises nothing itself
                raise policy_failure(error, float(self.lane[0]["now"])) from None
            pace.took(time.perf_counter() - began)
        if status == layout.BAD_SERVER:
            raise ValueError(
                f"the routing policy answered server {choice}: servers are 0 to {len(self.servers[0]) - 1}."
            )
        if status in (layout.BAD_BIN, layout.BAD_SIZE):
            bins = self.config.queueing.num_bins
            overdue = f", {bins + 1} the overdue queue" * self.config.queueing.has_overdue
            refuse = " or below 0 (refuse so many)" * (self.config.queueing.refusals == "on")
            raise ValueError(
                f"the policy answered bin {choice}, size {size}: bins are 0 to {bins - 1} ({bins} means any{overdue}), "
                f"sizes 0 (wait) to {self.config.max_batch}{refuse}."
            )
        return status

    def finish(self, lane: int = 0, *, until: float | None = None) -> NDArray:
        """Give the REQUEST rows of a lane their final look now, or at an earlier time ``until``; returns them."""
        rows, row = self.requests[lane, : int(self.lane[lane]["loaded"])], self.lane[lane]
        if row["linked"]:
            show_unsent(self.arrays, lane, rows)
        finish_rows(self.engine, rows, self.servers[lane], float(row["now"]) if until is None else until)
        return rows

    def result(self, *, wall_s: float = 0.0, warmup: int = 0) -> RunResult:
        """What the run of lane 0 leaves behind; see RunResult."""
        rows, lane = self.finish(), self.lane[0].copy()
        return RunResult(
            config=self.config,
            requests=rows,
            batches=self.log[0][: int(lane["counts"]["logged"])],
            bins=self.bins[0],
            servers=self.servers[0],
            lane=lane,
            itl_histogram=self.gaps[0],
            wall_s=wall_s,
            warmup=warmup,
            pools=None if self.chained is None else self.arrays.pools[0],
            cached_tokens=None if self.chained is None else self.arrays.chains[0][: len(rows)]["cached"],
            planned=planned_numbers(self.arrays, 0) if lane["linked"] else None,
        )


def policy_failure(error: Exception, now: float) -> Exception:
    """``ValueError`` that says what a policy raised at time ``now`` (s); Ctrl-C in compiled code stays what it is."""
    if isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt):
        return error
    about = " ".join(str(error).split())
    return ValueError(f"the policy failed at t = {now:g} s: {type(error).__name__}{f': {about}' if about else ''}.")


def finish_rows(engine: Engine, rows: NDArray, servers: NDArray, until: float) -> None:
    """Give REQUEST rows their final look at time ``until``: an engine may set stamps ahead, at dispatch.

    What comes later than ``until`` is taken back; a request that no server works on any more is completed.
    """
    settled = ~np.isnan(rows["completion"])  # else a last token so far, of a preempted or dropped request
    rows["last_token"] = np.where(settled & (rows["last_token"] <= until), rows["last_token"], math.nan)
    rows["first_token"] = np.where(rows["first_token"] <= until, rows["first_token"], math.nan)
    running = engine.in_service(rows, servers)
    rows["completion"] = np.where(settled & ~running, rows["completion"], math.nan)
    done = (rows["status"] == layout.IN_SERVICE) & settled & ~running
    rows["status"] = np.where(done, layout.COMPLETED, rows["status"])


def fill_rows(rows: NDArray, config: SimConfig, edges: NDArray[np.int64], requests: Requests) -> None:
    """Write requests that have not arrived yet into REQUEST rows (N,)."""
    if requests.slo_class.max(initial=0) >= len(config.slos):
        raise ValueError(f"slo_class {requests.slo_class.max()} has no SLO: {len(config.slos)} are given.")
    rows_loader()(
        rows,
        requests.arrival_s,
        requests.prompt_tokens,
        requests.output_tokens,
        requests.predicted_tokens,
        requests.slo_class,
        keys(config, requests),
        edges,
    )


def simulate(
    config: SimConfig,
    requests: Requests,
    decide: Callable,
    *,
    params: Sequence[float] = (),
    memory_size: int = 0,
    rng: np.random.Generator | None = None,
    details: bool = False,
    log_batches: bool = False,
    noise_key: int = 0,
    warmup: int = 0,
    route: RouteCall | None = None,
    watch: Watch | None = None,
) -> RunResult:
    """Simulate ``requests`` to the end (or to ``config.horizon_s``) under a compiled policy.

    ``decide`` is a function compiled with decide.compile_policy; ``rng`` is the policy's own stream; ``watch`` tells
    other threads how far the run is.  Equal arguments give equal bytes.
    """
    simulator = Simulator(config, len(requests), log=log_rows(config, len(requests)) if log_batches else 0, gaps=True)
    simulator.load(0, requests, noise_key=noise_key, warmup=warmup)
    memory = np.zeros(max(1, memory_size))
    generator = np.random.default_rng(0) if rng is None else rng
    entry_of(simulator.engine, config, route)  # compiled, or read from disk, before the clock starts
    if watch is not None:
        watch.follow(simulator.lane, len(requests), config.horizon_s)
    began = time.perf_counter()
    simulator.run(decide, np.asarray(params, dtype=np.float64), memory, generator, details=details, route=route)
    return simulator.result(wall_s=time.perf_counter() - began, warmup=warmup)
