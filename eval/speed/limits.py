"""What the machine allows: memory and arithmetic of one core, and what a request, a lane and a training step need."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numba import njit
from numpy.typing import NDArray

from llmsched.eval.speed.env import ENV
from llmsched.eval.speed.kernel import bench_scenario, kernel_rate, with_requests
from llmsched.eval.speed.process import python
from llmsched.eval.speed.table import SpeedRow
from llmsched.policies import parse
from llmsched_env.core.layout import REQUEST
from llmsched_env.simulation.simulator import Simulator

STREAMED = 2**25
"""Numbers of 8 bytes (256 MiB) in the arrays that memory is measured with: far more than the caches hold."""

CHASED = 2_000_000
"""Places that are read one after the other, each naming the next."""

SIZES = (10_000, 100_000, 1_000_000)
"""Numbers of requests between which the cost of one should not change."""

ROWS, INPUTS, HIDDEN, OUTPUTS = 4096, 80, 64, 135
"""A batch of PPO, and the widths of its networks: observation, hidden layers, logits of bin and size with the value."""

PASSES = 3
"""Products of matrices per layer and sample in an epoch: forward, and backward to the weights and to the inputs."""

EPOCHS = 4


@njit
def chase(following, steps):
    """Follow ``following`` (N,) for ``steps`` reads; each has to wait for the one before."""
    place = 0
    for _ in range(steps):
        place = following[place]
    return place


def best_seconds(work: Callable[[], Any], repeats: int) -> float:
    """CPU seconds of ``work``, the least of ``repeats``."""
    best = np.inf
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return float(best)


def one_cycle(count: int) -> NDArray[np.int64]:
    """Places (count,), each naming the next, in one cycle through all of them in random order."""
    order = np.random.default_rng(0).permutation(count)
    following = np.empty(count, np.int64)
    following[order] = np.roll(order, -1)
    return following


def measure_memory(repeats: int) -> list[SpeedRow]:
    """Bytes per second of a copy, and the time of a read that no cache holds."""
    source = np.ones(STREAMED)
    target = np.empty_like(source)
    copied = 2.0 * source.nbytes / best_seconds(lambda: np.copyto(target, source), repeats)
    following = one_cycle(STREAMED)
    chase(following, 1)
    read = best_seconds(lambda: chase(following, CHASED), repeats) / CHASED
    return [
        SpeedRow("limits", "memory, copied in order", copied / 1e9, "GB/s", note="read and written bytes, one core"),
        SpeedRow("limits", "memory, one read after the other", 1e9 * read, "ns", note="random places of 256 MiB"),
    ]


def learning_flops() -> float:
    """Operations of a step of PPO 64x64: four epochs on two networks, and the step of the rollout."""
    inside = 2.0 * (INPUTS * HIDDEN + HIDDEN * HIDDEN) + HIDDEN * OUTPUTS
    return 2.0 * inside * (1.0 + EPOCHS * PASSES)


def measure_arithmetic(repeats: int) -> list[SpeedRow]:
    """Products of matrices of the shapes of PPO, and the training steps per second that they allow."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((ROWS, HIDDEN)).astype(np.float32)
    weights = rng.standard_normal((HIDDEN, HIDDEN)).astype(np.float32)
    times = 50

    def work() -> None:
        for _ in range(times):
            rows @ weights

    work()
    rate = times * 2.0 * ROWS * HIDDEN * HIDDEN / best_seconds(work, repeats)
    shape = f"({ROWS:,}, {HIDDEN}) x ({HIDDEN}, {HIDDEN}), float32"
    bound = f"{learning_flops() / 1e6:.2f} MFLOP a step: the products of {EPOCHS} epochs alone"
    return [
        SpeedRow("limits", "products of matrices", rate / 1e9, "GFLOP/s", note=f"{shape}, CPU time of all threads"),
        SpeedRow("limits", "PPO 64x64 at most", rate / learning_flops(), "steps/s", note=bound),
    ]


def simulator_bytes(simulator: Simulator) -> int:
    """Bytes of all arrays of ``simulator``."""
    return sum(array.nbytes for array in simulator.arrays)


def measure_requests(repeats: int, most: int) -> list[SpeedRow]:
    """Time and memory of a request, over the number of requests of a run."""
    rows = []
    for engine, name in (("batch", "static"), ("continuous", "sarathi")):
        scenario = bench_scenario("--engine", engine)
        for count in sorted({*SIZES, most}):
            drawn = with_requests(scenario, count).draw(0)
            rate, _ = kernel_rate(scenario, drawn, parse(name), repeats)
            held = simulator_bytes(Simulator(scenario.config, count, gaps=True)) / count
            note = f"{held:.0f} bytes a request, of which its row {REQUEST.itemsize}"
            rows.append(SpeedRow("limits", f"{name}, {count:,} requests", 1e9 / rate, "ns/request", note=note))
    return rows


def held_bytes() -> float:
    """Memory that this process holds now; where the system does not say, the most that it held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(pages * resource.getpagesize())


def lane_bytes(lanes: int) -> float:
    """Memory of a lane of an environment with ``lanes`` of them that is reset and stepped once, in bytes.

    Call it in a fresh process: it is what its memory grows by.
    """
    small = gym.make_vec(ENV, 1, "vector_entry_point")  # what does not grow with the lanes
    small.reset(seed=0)
    small.step(small.action_space.sample())
    before = held_bytes()
    envs = gym.make_vec(ENV, lanes, "vector_entry_point")
    envs.reset(seed=0)
    envs.action_space.seed(0)
    envs.step(envs.action_space.sample())
    return (held_bytes() - before) / lanes


def measure_lanes(lanes: int) -> list[SpeedRow]:
    """Memory of a lane."""
    code = "import sys; from llmsched.eval.speed.limits import lane_bytes; print(lane_bytes(int(sys.argv[1])))"
    held = float(python(code, str(lanes)))
    note = f"{lanes * held / 1e9:.2f} GB for {lanes:,} lanes, reset and stepped once"
    return [SpeedRow("limits", "LLMSched-v0 native, a lane", held / 1e3, "kB", note=note)]


def measure(repeats: int, most: int, lanes: int) -> list[SpeedRow]:
    """All limits; ``most``: the largest number of requests of a run."""
    return [
        *measure_memory(repeats),
        *measure_arithmetic(repeats),
        *measure_requests(repeats, most),
        *measure_lanes(lanes),
    ]
