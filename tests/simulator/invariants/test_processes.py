"""Equal seeds give equal bytes in every process, and without the compiler."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from llmsched_env.config import Controller, Queueing, Server, SimConfig
from llmsched_env.core import layout
from llmsched_env.simulation.result import RunResult
from tests.simulator.invariants.equality import packed
from tests.simulator.invariants.tools import BLOOM, H100, ROOT, loaded, run

DIGEST = """
import hashlib, json, sys, warnings
from tests.simulator.invariants.test_processes import digest
warnings.simplefilter("ignore")
print(json.dumps([digest(policy, int(sys.argv[1])) for policy in sys.argv[2:]]))
"""

POLICIES = ("static:batch=32", "dynamic", "multibin", "random", "sjf", "timeout", "least-slack", "multibin-fixed")


def digest(policy: str, requests: int) -> str:
    """SHA-256 of everything a run leaves behind: a memory-bound one with noise, timers and own streams."""
    drawn, edges = loaded(11, requests)
    noisy = dataclasses.replace(BLOOM, noise_sigma=0.1)
    servers = (Server(noisy, 6000.0), Server(noisy, 8000.0), Server(H100))
    config = SimConfig(servers, Queueing(edges), controller=Controller(tbt_s=0.1), horizon_s=50_000.0)
    total = hashlib.sha256()
    for queueing in (Queueing(edges), Queueing(edges, overdue_factor=1.0, overdue_batch_factor=0.8)):
        result = run(dataclasses.replace(config, queueing=queueing), drawn, policy, noise_key=77)
        add(total, result)
    return total.hexdigest()


def add(total: Any, result: RunResult) -> None:
    """Put everything that a run leaves behind into a digest."""
    for records in (result.requests, result.batches, result.bins, result.servers, result.lane):
        total.update(packed(records))
    total.update(result.itl_histogram.tobytes())


def other_process(requests: int, **environment: str) -> str:
    """The digests of POLICIES, computed by a fresh interpreter."""
    command = [sys.executable, "-c", DIGEST, str(requests), *POLICIES]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def ours(requests: int) -> str:
    """The digests of POLICIES, computed here, as ``other_process`` prints them."""
    return str([digest(policy, requests) for policy in POLICIES]).replace("'", '"') + "\n"


def test_equal_seeds_give_equal_bytes_in_every_process() -> None:
    """Nothing depends on the process: hash seeds, addresses, the order of imports."""
    expected = ours(5000)
    for seed in ("0", "1"):
        assert other_process(5000, PYTHONHASHSEED=seed) == expected


def test_the_kernel_without_its_compiler_is_the_same_kernel() -> None:
    """NUMBA_DISABLE_JIT=1 runs the same source in Python (for debuggers and coverage): equal bytes."""
    assert other_process(150, NUMBA_DISABLE_JIT="1") == ours(150)


ROWS = [name for name, kind in vars(layout).items() if isinstance(kind, np.dtype) and name != "BATCH"]
"""The log has a `size`, which is therefore written by index."""


@pytest.mark.parametrize("name", ROWS)
def test_no_field_is_hidden_by_an_attribute_of_numpy(name: str) -> None:
    """Without the compiler ``row.size`` would be NumPy's, not the field: none that is read so may be called so."""
    hidden = [field for field in getattr(layout, name).names if hasattr(np.record, field)]
    assert not hidden, f"layout.{name}: rename {', '.join(hidden)}"


def test_other_seeds_give_other_bytes() -> None:
    """The digest sees the requests: fewer of them, another policy, another digest."""
    assert len({digest(policy, size) for policy in ("static", "dynamic") for size in (100, 101)}) == 4
