"""Ctrl-C at random instants of long commands: exit code 130, no traceback, within a second."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.injection.tools import TRIED

ROOT = Path(__file__).resolve().parents[2]
LONG = {
    "compare": ["--policies", "static,multibin", "--requests", "2000000", "--seeds", "3"],
    "compare, continuous": ["--engine", "continuous", "--policies", "fcfs", "--requests", "500000"],
    **{name: [] for name in ("capacity", "optimum", "hindsight", "theory", "levels", "stress", "sensitivity", "sla")},
    **{name: [] for name in ("decisions", "benchmark", "bench", "returns")},
}
"""Commands that take some seconds, once everything is compiled."""

INSTANTS = 3
LONGEST_S = 1.5
"""A second, and what it takes to end a process."""


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process")
@pytest.mark.parametrize("name", LONG)
def test_ctrl_c(name: str) -> None:
    """During the imports the signal itself ends the process; later the command ends, and says so."""
    rng = random.Random(name)
    command = [sys.executable, str(ROOT / "eval" / f"{name.partition(',')[0]}.py"), *LONG[name]]
    done, latest_s = 0, 15.0
    while done < INSTANTS:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            time.sleep(rng.uniform(0.5, latest_s))
            if process.poll() is not None:  # a fast machine: earlier next time
                assert process.returncode == 0 and latest_s > 1, (name, process.returncode)
                latest_s *= 0.7
                continue
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=20)[1]
            took_s = time.monotonic() - sent
        assert process.returncode in (130, -signal.SIGINT) and b"Traceback" not in error, (name, error)
        assert process.returncode == -signal.SIGINT or b"interrupted" in error
        assert took_s < LONGEST_S, (name, took_s)
        TRIED["interrupts of long commands"] += 1
        done += 1


def test_a_run_from_python_heeds_ctrl_c() -> None:
    """`simulate` in the main thread gives the keyboard a look while it runs."""
    code = (
        "import sys\nfrom llmsched.policies import parse_list\nfrom llmsched.eval import compare\n"
        "import numpy as np\nfrom llmsched_env.config import SimConfig\nfrom llmsched_env.requests import Requests\n"
        "from llmsched_env.servers import parse_servers\nfrom llmsched_env.simulation.simulator import simulate\n"
        "bound = parse_list('static:batch=1')[0]\nconfig = SimConfig(parse_servers('ideal'), max_batch=8)\n"
        "n = 4_000_000\nones = np.ones(n, np.int64)\n"
        "requests = Requests(np.arange(n) * 1e-3, ones, ones, ones, 0 * ones)\nready = bound.ready(config)\n"
        "print('ready', flush=True)\n"
        "while True:\n    simulate(ready.config, requests, ready.decide, params=ready.params)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n", process.stderr
        time.sleep(2)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=30)[1]
        assert process.returncode != 0 and b"KeyboardInterrupt" in error
        assert time.monotonic() - sent < LONGEST_S
        TRIED["interrupts of a run from Python"] += 1
