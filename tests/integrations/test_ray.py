"""Runs on a real Ray cluster of two nodes on this machine: the same bytes as threads make, whichever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from llmsched.eval.runs.cells import CellStore, Crew  # noqa: E402
from llmsched.eval.runs.outcome import Outcome  # noqa: E402
from llmsched.eval.runs.ray_cluster import RayCluster, connect  # noqa: E402
from llmsched.eval.runs.runner import Cell  # noqa: E402
from llmsched.eval.scenarios.variants import scenario_of  # noqa: E402
from llmsched.policies import parse  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without cores and two nodes of one core each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def crew(cluster: Cluster) -> RayCluster:
    """Connected as --ray connects."""
    return connect(cluster.address)


def some_cells(tmp_path: Path, seeds: int = 3) -> list[Cell]:
    """Policies of ours and of a user's file, streamed and with a timeline; a trace."""
    (tmp_path / "mine.py").write_text(
        "from llmsched.policies.parameters import number\nfrom llmsched.policies.registry import policy\n\n"
        '@policy("mine", params={"half": number(2)})\ndef mine(record, params, memory, rng):\n'
        '    """A share of the target, and a throw."""\n'
        "    return record.num_bins, max(1, int(record.target[record.num_bins] / params[0] - 2 * rng.random()))\n"
    )
    rows = "\n".join(f"{i * 0.7},{100 + i},{50 + i % 300}" for i in range(400))
    (tmp_path / "my.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    generated = scenario_of("--requests", "800")
    traced = scenario_of("--workload", str(tmp_path / "my.csv"))
    names = ["static:batch=7", "multibin", "random", f"{tmp_path / 'mine.py'}:mine:half=3"]
    cells = [Cell(n, parse(n), world, seed) for world in (generated, traced) for n in names for seed in range(seeds)]
    cells.append(Cell("line", parse("dynamic"), generated, 0, timeline=True))
    cells.append(Cell("stream", parse("dynamic"), generated, 0, streamed=True))
    return cells


def outcomes_of(crew: Crew, cells: Sequence[Cell]) -> list[Outcome]:
    found = {done.place: done.outcome for done in crew.run_cells(cells)}
    return [found[place] for place in range(len(cells))]


def assert_equal(one: Outcome, other: Outcome) -> None:
    """To the bit, the time that the kernel took apart."""
    assert (one.policy, one.seed) == (other.policy, other.seed)
    assert repr({**one.summary, "wall_s": 0}) == repr({**other.summary, "wall_s": 0})
    assert np.array_equal(one.latency_counts, other.latency_counts)
    assert (one.timeline is None) == (other.timeline is None)
    if one.timeline is not None and other.timeline is not None:
        assert np.array_equal(one.timeline.waiting, other.timeline.waiting)
        assert np.array_equal(one.timeline.batch, other.timeline.batch)


def test_the_cluster_gives_the_bytes_that_threads_give(crew: RayCluster, tmp_path: Path) -> None:
    cells = some_cells(tmp_path)
    here = outcomes_of(Crew(jobs=2), cells)
    there = outcomes_of(Crew(cluster=crew), cells)
    for one, other in zip(here, there, strict=True):
        assert_equal(one, other)


def workers() -> list[int]:
    """Process numbers of the workers that run a cell now."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::run_packed" in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def test_a_killed_worker_and_a_lost_node_lose_nothing(cluster: Cluster, crew: RayCluster, tmp_path: Path) -> None:
    """A worker is killed in the middle of a run, later a whole node; every run is there once, equal to the bit."""
    slow = scenario_of("--requests", "500000", "--rate", "5")
    cells = [Cell("multibin", parse("multibin"), slow, seed) for seed in range(8)]
    store = CellStore(tmp_path / "cells.jsonl")
    seen: list[Any] = []
    killed: list[int] = []
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    for done in Crew(cluster=crew, store=store).run_cells(cells):
        seen.append(done)
        if not killed:
            deadline = time.monotonic() + 60
            while not (running := workers()) and time.monotonic() < deadline:
                time.sleep(0.001)
            killed = running[:1]
            os.kill(killed[0], signal.SIGKILL)
        elif len(seen) == 3:
            cluster.remove_node(node)
    assert killed and sorted(done.place for done in seen) == list(range(8)) and not any(done.stored for done in seen)
    assert len(CellStore(tmp_path / "cells.jsonl")) == 8
    here = outcomes_of(Crew(jobs=2), cells[:2])
    there = {done.place: done.outcome for done in seen}
    for place, one in enumerate(here):
        assert_equal(one, there[place])


def test_a_failing_policy_is_one_line(crew: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(record, params, memory, rng):\n    return -1, 5\n")
    cell = Cell("bad", parse(f"{tmp_path / 'bad.py'}:bad"), scenario_of("--requests", "50"), 0)
    with pytest.raises(ValueError, match="^bad: the policy answered bin -1, size 5"):
        outcomes_of(Crew(cluster=crew), [cell])


def test_the_command_prints_the_same(cluster: Cluster, tmp_path: Path) -> None:
    """`compare --ray ADDRESS` from a checkout, elsewhere, against `compare`; an address that is none is one line."""
    command = [sys.executable, str(ROOT / "eval/compare.py"), "--requests", "500", "--seeds", "3"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run: dict[str, Any] = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 600}
    here = subprocess.run(command, **run)
    there = subprocess.run([*command, "--ray", cluster.address, "--out", str(tmp_path / "out")], **run)
    assert (there.returncode, there.stdout) == (0, here.stdout), there.stderr
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 10
    nowhere = subprocess.run([*command, "--ray", "127.0.0.1:1"], **run)
    assert nowhere.returncode == 2 and "Traceback" not in nowhere.stderr
    assert "compare.py: error: --ray 127.0.0.1:1" in nowhere.stderr.splitlines()[-1]
