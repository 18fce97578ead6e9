"""Measurements in separate processes: long streamed runs, the second `compare`, the import."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

from llmsched.eval.runs.machine import ROOT
from llmsched.eval.speed.kernel import bench_scenario, with_requests
from llmsched.eval.speed.table import SpeedRow
from llmsched.policies import parse
from llmsched_env.simulation.metrics import Accumulator
from llmsched_env.simulation.streaming import simulate_stream

GIB = 2.0**30
STREAM_POLICY = "multibin"
"""A scheduler whose queue stays short under the default load, however long the run."""


def stream(requests: int, chunk: int = 100_000) -> dict[str, float]:
    """Generate and simulate ``requests`` of the default scenario, chunk by chunk: times, peak memory, totals.

    Call it in a fresh process, whose peak memory it reports.
    """
    scenario, bound = bench_scenario(), parse(STREAM_POLICY)
    ready, workload = bound.ready(scenario.config), with_requests(scenario, requests)
    for part in simulate_stream(ready.config, with_requests(scenario, 1000).chunks(1), ready.decide, **ready.options):
        Accumulator().add(part)  # compiles the kernels that are not in the cache
    totals, kernel_s, began, cpu = Accumulator(), 0.0, time.perf_counter(), time.process_time()
    for part in simulate_stream(ready.config, workload.chunks(0, chunk), ready.decide, **ready.options):
        totals.add(part)
        kernel_s += part.wall_s
    summary = totals.summary()
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "kernel_s": kernel_s,
        "peak_bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "completed": summary["completed"],
        "mean_queue_ms": summary["mean_queue_ms"],
    }


def python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter that imports the same packages as this one."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def measure_stream(requests: int) -> list[SpeedRow]:
    """Requests generated, simulated and summarised per CPU-second, in fixed memory."""
    code = (
        "import json, sys; from llmsched.eval.speed.process import stream; print(json.dumps(stream(int(sys.argv[1]))))"
    )
    found = json.loads(python(code, str(requests)))
    if found["completed"] != requests:
        raise RuntimeError(f"{found['completed']:,} of {requests:,} streamed requests completed: nothing was timed.")
    name = f"{requests / 1e6:g} M requests generated and streamed ({STREAM_POLICY})"
    rate = requests / found["cpu_s"]
    memory, share = found["peak_bytes"] / GIB, found["kernel_s"] / found["wall_s"]
    note = f"{found['wall_s']:.1f} s, peak memory {memory:.2f} GiB, {share:.0%} of the time in the kernel"
    return [SpeedRow("stream", name, rate, "requests/s", note=note)]


def measure_compare() -> list[SpeedRow]:
    """Wall time of the default `compare`, the second time."""
    command = [sys.executable, "-m", "llmsched.eval.compare"]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    note = f"the first took {times[0]:.3g} s; {os.cpu_count()} cores"
    return [SpeedRow("compare", "eval/compare.py, default, second run", min(times[1:]), "s", note=note)]


def measure_import(repeats: int = 7) -> list[SpeedRow]:
    """Wall time of `import llmsched_env` in a fresh process, minus that of the interpreter alone."""

    def best(code: str) -> float:
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            python(code)
            times.append(time.perf_counter() - began)
        return min(times)

    bare = best("pass")
    gymnasium = best("import gymnasium") - bare
    return [
        SpeedRow("import", "import gymnasium", gymnasium, "s"),
        SpeedRow(
            "import", "import llmsched_env", best("import llmsched_env") - bare, "s", gymnasium, "import gymnasium"
        ),
    ]
