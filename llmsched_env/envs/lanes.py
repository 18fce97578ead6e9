"""N lanes of the simulator as an agent drives them: reset, step, observe.  Both environments are faces of this."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env import engines
from llmsched_env.compiler.addresses import addresses
from llmsched_env.config import SimConfig
from llmsched_env.core import layout
from llmsched_env.core.state import records
from llmsched_env.core.step import STEP_ARRAYS, entry_point
from llmsched_env.engines.engine import Engine
from llmsched_env.envs import spaces
from llmsched_env.envs.episodes import Episodes
from llmsched_env.envs.options import EnvOptions
from llmsched_env.requests import Requests
from llmsched_env.simulation.memory import check_memory
from llmsched_env.simulation.simulator import Simulator, log_rows

EPISODES_BYTES = 5_000
"""Bytes of a lane's generator and options, at least."""

DEFAULT_SCALE_S = 30.0
"""T of the observation where no TTFT or E2E target is given."""


def check_fits(prompt: int, eta: float) -> None:
    """``ValueError`` when not even a request with a prompt of ``prompt`` tokens fits into ``eta`` tokens of memory."""
    if prompt + 1 > eta:
        raise ValueError(
            f"kv_tokens={eta:g} is less than every request of the workload needs (the shortest prompt has {prompt} "
            f"tokens): give more."
        )


class Lanes:
    """State of N environments with equal options; lane i draws from ``rngs[i]`` alone."""

    def __init__(
        self, options: EnvOptions, lanes: int, *, threads: int = 1, log: bool = False, config: SimConfig | None = None
    ) -> None:
        self.options = options
        self.config = options.simulation() if config is None else config
        queueing = self.config.queueing
        bins = max(options.num_max_bins, queueing.num_bins)
        cached = engines.get(self.config.engine).blocks(self.config) > 0
        self.limits = spaces.Limits(
            bins, self.config.max_batch, queueing.has_overdue, cached, queueing.refusals == "on"
        )
        first = Episodes(options, lanes)
        check_memory(f"{lanes:,} environments", float(lanes) * (EPISODES_BYTES + 48.0 * first.capacity))
        self._entry  # noqa: B018  (compiled first, while another process compiles the rest: compiler.beside)
        self.episodes = [first, *(Episodes(options, lanes) for _ in range(lanes - 1))]
        check_fits(self.episodes[0].shortest_prompt, self.config.max_eta)
        capacity = self.episodes[0].capacity
        rows = log_rows(self.config, capacity) if log else 0
        self.simulator = Simulator(self.config, capacity, lanes=lanes, log=rows, track=True)
        self.title: str | None = None  # what stands above pictures
        self._noisy = any(server.profile.noise_sigma for server in self.config.servers)
        self.outcome = records(np.zeros(lanes, layout.OUTCOME))
        self.actions = np.zeros((lanes, 2), np.int64)
        self.mode = np.zeros(lanes, np.int8)
        self.steps = np.zeros(lanes, np.int64)
        self._make_rows(lanes, threads)
        self.image = np.zeros((lanes, *self.observation_space.shape), np.float32)
        deadline = self.config.server_slos[0].deadline_s
        self.scale_s = deadline if math.isfinite(deadline) else DEFAULT_SCALE_S
        self._connect()

    def _make_rows(self, lanes: int, threads: int) -> None:
        """Make the rows that depend on what is asked: records, valid answers, sizes of the ladder."""
        self._check_routing()
        self.record = [records(np.zeros(1, layout.RECORD)) for _ in range(threads)]
        self.valid = np.zeros((lanes, self.limits.choices + 1), np.int8)
        self.valid[:, self.limits.max_bins] = 1  # `any`
        self._blank = spaces.blank_masks(self.options.action, lanes, self.limits)
        self._ladder = spaces.ladder(self.config.max_batch, self.config.queueing.refusals == "on")
        if not self.discrete:
            self._ladder = np.zeros(0, np.int64)
        self._order = [np.zeros(len(self.config.servers)) for _ in range(threads)]

    def _check_routing(self) -> None:
        if self.config.continuous.routing == "asked":
            raise ValueError("routing='asked' asks for a server at every arrival: make LLMSchedRouter-v0 for it.")

    @property
    def discrete(self) -> bool:
        """Whether an action is one number."""
        return self.options.action == "ladder"

    @property
    def action_sizes(self) -> list[int]:
        """Number of values of every part of an action."""
        return spaces.action_sizes(self.options.action, self.limits)

    @property
    def action_space(self) -> Any:
        """Actions of one lane."""
        return spaces.action_space(self.options.action, self.limits)

    @property
    def observation_space(self) -> Any:
        """Observations of one lane."""
        return spaces.observation_space(self.limits, self.engine)

    @property
    def _entry(self) -> Any:
        """The compiled step of many lanes."""
        return self.engine.step_lanes

    @property
    def engine(self) -> Engine:
        """The engine that is simulated."""
        return engines.get(self.config.engine)

    def _connect(self) -> None:
        """Make what cannot be copied or kept: the threads, and the kernel with its arguments."""
        threads = len(self.record)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._process = os.getpid()
        self._bind()
        self._step = entry_point(self._entry)

    def _bind(self) -> None:
        """Make the arguments of the kernel: a prefix cache's arrays may have grown."""
        lanes, threads = len(self.mode), len(self.record)
        cuts = [lanes * part // threads for part in range(threads + 1)]
        self._parts = [self._arguments(part, cuts[part], cuts[part + 1]) for part in range(threads)]
        self._bound = self.simulator.arrays

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_pool", "_parts", "_bound", "_step", "_process")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    def start(self, lane: int, rng: np.random.Generator, *, seeded: bool, requests: Requests | None = None) -> None:
        """Put a lane before the first event of its next episode, or of ``requests``; ``run`` goes to a decision."""
        episodes = self.episodes[lane]
        if seeded:
            episodes.forget()
        if requests is None:
            requests = episodes.draw(rng)
            ends = episodes.complete(requests)
        else:
            self._check_own(requests)
            ends = True
        key = int(rng.integers(2**63)) if self._noisy else 0
        self.simulator.load(lane, requests, final=layout.LAST if ends else 1, noise_key=key)
        if self.simulator.arrays is not self._bound:
            self._bind()
        self.steps[lane] = 0
        self.mode[lane] = layout.START

    def _check_own(self, requests: Requests) -> None:
        if not isinstance(requests, Requests):
            raise ValueError(f"options['requests']={requests!r} is not allowed: give Requests.checked(...).")
        capacity = self.simulator.capacity
        if not 1 <= len(requests) <= capacity:
            raise ValueError(
                f"options['requests'] holds {len(requests)} requests: 1 to {capacity} are possible here; "
                f"make the environment with requests={len(requests)} for more."
            )

    def run(self) -> None:
        """Take every lane to its next decision or end, as ``mode`` says (SKIP, START, STEP)."""
        if self._process != os.getpid():  # forked: the threads stayed in the parent
            self._connect()
        if self._pool is None:
            for part in self._parts:
                self._step(*part)
            return
        for future in [self._pool.submit(self._step, *part) for part in self._parts]:
            future.result()

    def _arguments(self, part: int, low: int, high: int) -> tuple[Any, ...]:
        """What `step_lanes` takes for lanes low, ..., high - 1: the arrays stay the same ones for ever."""
        own = (self.record[part], self.actions, self._ladder, self.mode, self.outcome, self.image, self.valid)
        arrays = (*self.simulator.arrays, *own, self._order[part])
        return addresses(arrays, STEP_ARRAYS), float(self.scale_s), low, high

    def masks(self) -> NDArray[np.bool_]:
        """Valid actions of every lane, (N, actions) bool."""
        return spaces.action_masks(self.options.action, self.valid, self._blank)

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
