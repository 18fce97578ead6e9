"""The simulator: owns the state arrays, loads requests, and is the only caller of the kernels."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from llmsched_env.compiler.parts import jit_is_off
from llmsched_env.config import BLOCK_TOKENS, ROUTINGS, SimConfig
from llmsched_env.core import layout, run
from llmsched_env.core.controllers import reset_controller
from llmsched_env.profiles import COEFFICIENTS, FORMS
from llmsched_env.requests import Requests
from llmsched_env.simulation.disciplines import keys
from llmsched_env.simulation.result import RunResult

DECISIONS_PER_CALL = 2_000_000
"""Decisions between two looks at the keyboard (Ctrl-C), a second or less."""


LOGGED = {"batch": 2, "continuous": 8}
"""Rows of the log per request: batches, or segments."""


def step_s(server, batch: int, kv_tokens: float) -> float:
    """Seconds of one decode step of ``batch`` sequences with ``kv_tokens`` in the cache on a config.Server."""
    return server.profile.decode_step_ms(batch, kv_tokens) / 1000.0


def safe_tbt_s(config: SimConfig) -> float:
    """D of the SLA controller: the one asked for, or with a warning the smallest with D - eps >= tau(1).

    tau(1) is the step of a batch of one with an empty cache (docs/reference/semantics.md has its use).
    """
    asked = config.tbt_s
    least = max(step_s(server, 1, 0.0) for server in config.servers) + config.controller.eps_s
    if config.controller.kind == "paper" and asked < least:
        warnings.warn(
            f"target time between tokens {asked * 1e3:g} ms is refused: a batch of one takes "
            f"{(least - config.controller.eps_s) * 1e3:.4g} ms, so the controller could hold a small batch for ever; "
            f"{least * 1e3:.4g} ms is used. Give a tpot (or tbt) well above that.",
            stacklevel=3,
        )
        return least
    return asked


def records(array: NDArray) -> NDArray:
    """Rows with attribute access, which compiled code has anyway and plain NumPy rows have not."""
    return array.view(np.recarray) if jit_is_off() else array


def kernel_of(engine: str) -> Callable:
    """The compiled run of ``engine``; that of `continuous` is compiled, or read from disk, at its first use."""
    if engine == "batch":
        return run.run_lane
    from llmsched_env.engines.continuous import run as continuous_run

    return continuous_run.run_lane


class Simulator:
    """N independent lanes of one configuration.

    Memory is taken once, for ``capacity`` requests a lane; loading and running allocate nothing.
    """

    def __init__(
        self, config: SimConfig, capacity: int, *, lanes: int = 1, log: int = 0, gaps: bool = False, track: bool = False
    ) -> None:
        bins, servers = config.groups * config.queueing.num_bins, len(config.servers)
        running_sets = (servers, config.max_batch) if config.engine == "continuous" else (1, 1)
        keyed = config.queueing.discipline != "fifo"
        self.config = config
        self.capacity = capacity
        self.edges = np.asarray(config.queueing.edges, dtype=np.int64)
        self.arrays = tuple(
            records(array)
            for array in (
                np.zeros(lanes, layout.LANE),
                np.zeros((lanes, bins + 1), layout.BIN),
                np.zeros((lanes, servers), layout.SERVER),
                np.zeros((lanes, capacity), layout.REQUEST),
                np.zeros((lanes, bins, capacity) if keyed else (lanes, 1, 1), np.int32),
                np.zeros((lanes, len(config.slos)), layout.SLO_ROW),
                np.zeros((lanes, config.max_batch), np.int32),
                np.zeros((lanes, log), layout.BATCH),
                np.zeros((lanes, layout.ITL_BINS if gaps else 0), np.int64),
                np.zeros((lanes, bins), np.int32),
                np.zeros((lanes, *running_sets), layout.SLOT),
                np.zeros((lanes, 1 if config.queueing.late_bin is None else capacity), layout.EXPIRY),
            )
        )
        self.lane, self.bins, self.servers, self.requests, self.heap = self.arrays[:5]
        self.slos, self.log, self.gaps, self.slots = self.arrays[5], self.arrays[7], self.arrays[8], self.arrays[10]
        self.expiry = self.arrays[11]
        self.record = records(np.zeros(1, layout.RECORD))
        self._blank = self._template(track)

    def _template(self, track: bool) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """The rows of a lane before its first event: lane, bins, servers, slos."""
        config, controller, queueing = self.config, self.config.controller, self.config.queueing
        lane = records(np.zeros(1, layout.LANE))
        values = {
            "num_bins": queueing.num_bins,
            "num_servers": len(config.servers),
            "max_batch": config.max_batch,
            "asked": layout.NONE,
            "free": len(config.servers),
            "keyed": queueing.discipline != "fifo",
            "late_bin": queueing.late_bin is not None,
            "late_factor": queueing.late_bin or 0.0,
            "triage": queueing.triage or 0.0,
            "release_own": config.release == "own",
            "track": track,
            "max_eta": config.max_eta,
            "overhead": config.overhead_s,
            "horizon": config.horizon_s,
            "hold": queueing.hold_s,
            "tick": queueing.tick_s,
            "max_tokens": queueing.max_tokens,
            "max_wait": queueing.max_wait_s,
            "tbt": safe_tbt_s(config),
            "eps": controller.eps_s,
            "alpha": controller.alpha,
            "delta": controller.delta,
            "b_min": controller.b_min,
            "theta": NormalDist().inv_cdf(1.0 - controller.eps_memory),
            "ema": controller.ema,
            "eta_min": min(config.usable_eta(server) for server in config.servers),
            "peer": controller.kind == "peer",
            "last_arrival": math.nan,
            "gap_fast": math.nan,
            "gap_slow": math.nan,
            "continuous": config.engine == "continuous",
            "groups": config.groups,
            "by_prompt": config.continuous.admission == "prompt",
            "prefill_first": config.continuous.prefill == "first",
            "preemptive": queueing.discipline == "oracle-srpt",
            "routing": ROUTINGS.index(config.continuous.routing),
            "last_routed": layout.NONE,
            "token_budget": config.continuous.token_budget,
            "watermark": config.continuous.watermark,
            "window": config.continuous.window_s,
        }
        for name, value in values.items():
            lane[name] = value
        bins = records(np.zeros(config.groups * queueing.num_bins + 1, layout.BIN))
        for name in ("head", "tail", "returned"):
            bins[name] = layout.NONE
        for k in range(len(bins)):
            reset_controller(lane[0], bins[k])
        slos = np.zeros(len(config.slos), layout.SLO_ROW)
        for row, slo in zip(slos, config.slos, strict=True):
            row["ttft"], row["tpot"], row["e2e"] = slo.ttft_s, slo.tpot_s, slo.e2e_s
        return lane, bins, _server_rows(config), slos

    def load(self, lane: int, requests: Requests, *, final: int = 1, noise_key: int = 0, warmup: int = 0) -> None:
        """Put lane ``lane`` before its first event with these requests (at most ``capacity``); see layout.LANE."""
        n = len(requests)
        if n > self.capacity:
            raise ValueError(f"{n} requests do not fit: this simulator was made for {self.capacity}.")
        place = slice(lane, lane + 1)
        for array, blank in zip((self.lane, self.bins, self.servers, self.slos), self._blank, strict=True):
            array[place].reshape(-1).view(np.uint8)[:] = blank.view(np.uint8)  # field by field takes much longer
        self.gaps[lane] = 0
        fill_rows(self.requests[lane, :n], self.config, self.edges, requests)
        row = self.lane[lane : lane + 1]
        row["loaded"], row["final"], row["noise_key"], row["warmup"] = n, final, noise_key, warmup

    def run(
        self,
        decide: Callable,
        params: NDArray[np.float64],
        memory: NDArray[np.float64],
        rng: np.random.Generator,
        *,
        details: bool = False,
    ) -> int:
        """Run lane 0 under a compiled policy until it stops; returns layout.DRAINED, HORIZON or NEED_MORE.

        Raises ``ValueError`` when the policy answers a bin or a size that does not exist.
        """
        status = layout.DECIDE
        run_lane = kernel_of(self.config.engine)
        while status == layout.DECIDE:
            try:
                status = run_lane(self.arrays, self.record, decide, params, memory, rng, details, DECISIONS_PER_CALL)
            except (ArithmeticError, LookupError, ValueError) as error:  # the kernel raises nothing itself
                now = float(self.lane[0]["now"])
                raise ValueError(f"the policy failed at t = {now:g} s: {type(error).__name__}: {error}.") from None
        if status in (layout.BAD_BIN, layout.BAD_SIZE):
            choice, size = int(self.record[0]["last_size"]), int(self.record[0]["server_batches"])
            raise ValueError(
                f"the policy answered bin {choice}, size {size}: bins are 0 to {self.config.queueing.num_bins} "
                f"(the last means any), sizes 0 (wait) to {self.config.max_batch}."
            )
        return status


def fill_rows(rows: NDArray, config: SimConfig, edges: NDArray[np.int64], requests: Requests) -> None:
    """Write requests that have not arrived yet into REQUEST rows (N,)."""
    if requests.slo_class.max(initial=0) >= len(config.slos):
        raise ValueError(f"slo_class {requests.slo_class.max()} has no SLO: {len(config.slos)} are given.")
    run.load_rows(
        rows,
        requests.arrival_s,
        requests.prompt_tokens,
        requests.output_tokens,
        requests.predicted_tokens,
        requests.slo_class,
        keys(config, requests),
        edges,
    )


def _server_rows(config: SimConfig) -> NDArray:
    rows = np.zeros(len(config.servers), layout.SERVER)
    for row, server in zip(rows, config.servers, strict=True):
        profile = server.profile
        row["form"] = FORMS.index(profile.form)
        row["total_length"] = profile.length == "total"
        for place, name in enumerate(COEFFICIENTS[profile.form]):
            # g of batch-length is a pure number; everything else is in ms
            row["c"][place] = profile.coefficients[name] * (1.0 if name == "g" else 1e-3)
        row["eta"] = config.usable_eta(server)
        row["capacity"] = row["eta"] / BLOCK_TOKENS
        row["low"], row["high"] = config.controller.b_min, config.max_batch
        row["noise_sigma"] = profile.noise_sigma
        for name in ("next_event", "end", "predicted_end"):
            row[name] = math.inf
        for name in ("evict_head", "evict_tail", "drop", "batch", "prefill_head", "prefill_tail"):
            row[name] = layout.NONE
    return rows


def finish(rows: NDArray, servers: NDArray, until: float) -> None:
    """Give the REQUEST rows their final look at time ``until``: stamps were settled ahead, at dispatch.

    What ends later is taken back; members of batches that have ended are completed.
    """
    settled = ~np.isnan(rows["completion"])  # else a last token so far, of an evicted or dropped request
    rows["last_token"] = np.where(settled & (rows["last_token"] <= until), rows["last_token"], math.nan)
    rows["first_token"] = np.where(rows["first_token"] <= until, rows["first_token"], math.nan)
    running = np.isin(rows["batch"], servers["batch"][servers["batch"] != layout.NONE])
    rows["completion"] = np.where(settled & ~running, rows["completion"], math.nan)
    done = (rows["status"] == layout.IN_SERVICE) & settled & ~running
    rows["status"] = np.where(done, layout.COMPLETED, rows["status"])


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
) -> RunResult:
    """Simulate ``requests`` to the end (or to ``config.horizon_s``) under a compiled policy.

    ``decide`` is a function compiled with decide.compile_policy; ``rng`` is the policy's own stream.  Equal
    arguments give equal bytes.
    """
    simulator = Simulator(
        config, len(requests), log=LOGGED[config.engine] * len(requests) if log_batches else 0, gaps=True
    )
    simulator.load(0, requests, noise_key=noise_key, warmup=warmup)
    memory = np.zeros(max(1, memory_size))
    generator = np.random.default_rng(0) if rng is None else rng
    kernel_of(config.engine)  # compiled, or read from disk, before the clock starts
    began = time.perf_counter()
    simulator.run(decide, np.asarray(params, dtype=np.float64), memory, generator, details=details)
    wall_s = time.perf_counter() - began
    lane = simulator.lane[0].copy()
    rows = simulator.requests[0]
    finish(rows, simulator.servers[0], float(lane["now"]))
    return RunResult(
        config=config,
        requests=rows,
        batches=simulator.log[0][: int(lane["logged"])],
        bins=simulator.bins[0],
        servers=simulator.servers[0],
        lane=lane,
        itl_histogram=simulator.gaps[0],
        wall_s=wall_s,
        warmup=warmup,
    )
