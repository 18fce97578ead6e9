"""Speed of the compiled kernel, beside a plain-Python event loop of the same rules."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import OF_2023, scenario_of
from llmsched.eval.speed.python_loop import PythonLoop
from llmsched.eval.speed.table import SpeedRow
from llmsched.policies import Bound, parse
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import Simulator, simulate
from llmsched_env.workload import Workload

PAPER_POLICIES = ("static", "dynamic", "multibin", "multibin-fixed")
LOADS = {"default load": 2.5, "overload": 10.0}
"""Requests/s on the four servers of the scenario llama2-h100."""

PYTHON_BATCH = 8
PYTHON_REQUESTS = 100_000
"""Requests of a measurement of the plain-Python loop, whose speed does not depend on their number."""

CHECKED = 20_000
"""Requests on which the plain-Python loop must give the kernel's stamps before it is timed."""


CONTINUOUS = (("sarathi", "chunks"), ("fcfs", "prompts first"), ("dynamic", "reservations"))
"""Policies of the engine `continuous`, and the feature that each one uses."""

CONTINUOUS_RATES = {"default load": 10.0, "overload": 20.0}
FLATNESS = (10_000, 1_000_000)

CACHE = ("--engine", "continuous", "--servers", "8", "--prefix-cache", "on")
SHARED = {
    "prompts of Mooncake, 500 shared beginnings": ("--workload", "mooncake-conv", "--shared-prefix", "500:8192:1"),
    "20 system prompts": ("--shared-prefix", "20:1024:1"),
}
"""Workloads of the prefix cache; requests draw what they begin with, so no file is needed."""

CACHED_REQUESTS = 100_000
"""Numbers of requests between which the cost of one should not change."""


def bench_scenario(*words: str) -> Scenario:
    """The scenario llama2-h100, with the options ``words``: figures of one kind over the years."""
    return scenario_of(*OF_2023, *words)


def with_requests(scenario: Scenario, requests: int) -> Workload:
    """The workload of ``scenario`` with another number of requests."""
    return dataclasses.replace(scenario.workload, requests=requests)


def check_python(scenario: Scenario, requests: Requests) -> None:
    """``RuntimeError`` unless both simulators give the same stamps, to 1e-9 of the time."""
    bound = parse(f"static:batch={PYTHON_BATCH}")
    ready = bound.ready(scenario.config)
    ours = simulate(ready.config, requests, ready.decide, **ready.options).requests
    theirs = PythonLoop(scenario.config, requests, PYTHON_BATCH).run()
    for name in ("dispatch", "first_token", "last_token", "completion"):
        if not np.allclose(ours[name], getattr(theirs, name), rtol=1e-9, atol=0.0):
            raise RuntimeError(f"the plain-Python loop and the kernel disagree about {name}: nothing was timed.")


def python_rate(scenario: Scenario, requests: Requests, repeats: int) -> float:
    """Requests per CPU-second of the plain-Python loop, the best of ``repeats``."""
    best = 0.0
    for _ in range(repeats):
        loop = PythonLoop(scenario.config, requests, PYTHON_BATCH)
        began = time.process_time()
        loop.run()
        best = max(best, len(requests) / (time.process_time() - began))
    return best


def kernel_rate(scenario: Scenario, requests: Requests, bound: Bound, repeats: int) -> tuple[float, float]:
    """Requests per CPU-second of the kernel alone, the best of ``repeats``; and the mean batch size."""
    ready = bound.ready(scenario.config)
    simulator = Simulator(ready.config, len(requests), gaps=True)
    best = 0.0
    for _ in range(repeats):
        simulator.load(0, requests)
        memory, rng = np.zeros(max(1, ready.memory_size)), np.random.default_rng(0)
        began = time.process_time()
        simulator.run(ready.decide, ready.params, memory, rng, details=ready.details)
        best = max(best, len(requests) / (time.process_time() - began))
    counts = simulator.lane[0]["counts"]
    return best, float(counts["launched"]) / float(counts["batches"])


def measure(requests: int, repeats: int) -> list[SpeedRow]:
    """Every paper scheduler at both loads."""
    rows = []
    for load, rate in LOADS.items():
        scenario = bench_scenario().at_rate(rate)
        check_python(scenario, with_requests(scenario, CHECKED).draw(0))
        python = python_rate(scenario, with_requests(scenario, min(requests, PYTHON_REQUESTS)).draw(0), repeats)
        anchor = f"plain-Python loop, {load}"
        drawn = with_requests(scenario, requests).draw(0)
        rows.append(SpeedRow("kernel", anchor, python, "requests/s", note=f"static, batch {PYTHON_BATCH}"))
        for name in PAPER_POLICIES:
            best, size = kernel_rate(scenario, drawn, parse(name), repeats)
            note = f"mean batch {size:.1f}"
            rows.append(SpeedRow("kernel", f"{name}, {load}", best, "requests/s", python, anchor, note))
    return rows


def measure_continuous(requests: int, repeats: int) -> list[SpeedRow]:
    """The engine `continuous` at two loads, and its cost per request at two lengths of the run."""
    rows = []
    for load, rate in CONTINUOUS_RATES.items():
        scenario = bench_scenario("--engine", "continuous").at_rate(rate)
        drawn = with_requests(scenario, requests).draw(0)
        for name, what in CONTINUOUS:
            best, size = kernel_rate(scenario, drawn, parse(name), repeats)
            note = f"{what}; mean iteration {size:.1f} sequences"
            rows.append(SpeedRow("continuous", f"{name}, {load}", best, "requests/s", note=note))
    scenario = bench_scenario("--engine", "continuous")
    for count in FLATNESS:
        best, _ = kernel_rate(scenario, with_requests(scenario, count).draw(0), parse("sarathi"), repeats)
        rows.append(SpeedRow("continuous", f"sarathi, {count:,} requests", best, "requests/s"))
    return rows


def measure_cache(requests: int, repeats: int, trace: str | None = None) -> list[SpeedRow]:
    """The prefix cache on drawn workloads, and on the ``trace`` (a file with hashes) at its own length; `vllm`.

    The anchor of each is the same run without the cache.
    """
    workloads: dict[str, tuple[tuple[str, ...], int | None]] = {
        name: (words, min(requests, CACHED_REQUESTS)) for name, words in SHARED.items()
    }
    if trace is not None:
        workloads["trace with hashes"] = (("--workload", trace), None)
    rows = []
    for name, (words, count) in workloads.items():
        on = scenario_of(*CACHE, *words)
        off = scenario_of(*CACHE[:-1], "off", *words)
        drawn = on.workload.draw(0) if count is None else with_requests(on, count).draw(0)
        without, _ = kernel_rate(off, drawn, parse("vllm"), repeats)
        rows.append(SpeedRow("cache", f"{name}, no cache", without, "requests/s", note=f"{len(drawn):,} requests"))
        best, size = kernel_rate(on, drawn, parse("vllm"), repeats)
        anchor, note = f"{name}, no cache", f"mean iteration {size:.1f} sequences"
        rows.append(SpeedRow("cache", f"{name}, prefix cache", best, "requests/s", without, anchor, note))
    return rows
