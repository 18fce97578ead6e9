"""Nothing hangs, nothing ends the process: impossible sizes are refused, threads survive a fork, Ctrl-C is heeded."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from llmsched.eval import benchmark
from llmsched.eval.best_possible import plan_search
from llmsched.eval.experiments.benchmark import experiment
from llmsched.eval.scenarios.from_options import warn_of_narrow_search
from llmsched_env.config import Queueing, SimConfig
from llmsched_env.requests import Requests
from llmsched_env.servers import parse_servers
from llmsched_env.simulation.simulator import Simulator
from llmsched_env.workload.workload import Workload
from tests.faults.tools import ROOT, run

ENDLESS = {
    "a rate of nearly nothing": (["--rate", "1e-300"], "give a higher rate"),
    "a rate at which the generator draws for ever": (["--rate", "1e-6", "--requests", "20000"], "changes"),
    "a long time": (["--duration", "1e12"], "GiB"),
    "many requests": (["--requests", "1000000000"], "GiB"),
    "a tick that the clock cannot tell": (["--tick", "1e-300"], "tick_s"),
    "a timer that asks for ever": (["--hold", "1e-300"], "hold_s"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_would_never_end_is_refused(kind: str) -> None:
    """With what it would take, at once."""
    words, said = ENDLESS[kind]
    run(*words).refused(said)


def test_a_trace_of_nearly_no_gaps_is_refused_in_a_short_line(tmp_path: Path) -> None:
    """Its rate is a number of 300 digits."""
    trace = tmp_path / "x.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1e-300,1,1\n2e-300,1,1\n")
    assert len(run("--workload", trace, "--duration", "5").refused("5e+300 requests")) < 300


def test_a_tick_that_is_too_short_for_the_times_is_refused() -> None:
    """Times beyond 2^50 ticks: the next tick after such a time is that time."""
    simulator = Simulator(SimConfig(parse_servers("ideal"), Queueing(tick_s=1e-6)), 1)
    simulator.load(0, Requests.checked([1e8], [5], [5]))
    with pytest.raises(ValueError, match="too short for arrivals until"):
        simulator.load(0, Requests.checked([1e10], [5], [5]))


def test_environments_that_no_memory_holds_are_refused() -> None:
    """Before they are made."""
    cases: list[dict[str, Any]] = [
        {"num_envs": 10**9},
        {"num_envs": 10**6, "requests": 10**6},
        {"num_envs": 2, "threads": 10**9},
    ]
    for words in cases:
        with pytest.raises(ValueError, match=r"GiB|threads"):
            gym.make_vec("llmsched_env:LLMSched-v0", **words)
    with pytest.raises(ValueError, match="GiB"):
        Workload("poisson", requests=10**9, rate=1.0).draw(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_steps_the_environment_of_its_parent() -> None:
    """Its threads stayed in the parent: the child makes its own, and both go on equally."""
    envs = gym.make_vec("llmsched_env:LLMSched-v0", num_envs=8, threads=2, requests=40)
    envs.reset(seed=1)
    actions = envs.action_space.sample()
    envs.step(actions)
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(15)  # ends a child that hangs
        os.write(here, envs.step(actions)[0].tobytes())
        os._exit(0)
    os.close(here)
    found = b"".join(iter(lambda: os.read(there, 65536), b""))
    assert os.waitpid(child, 0)[1] == 0 and found == envs.step(actions)[0].tobytes()


def test_the_seeds_of_the_lanes_can_be_asked_for() -> None:
    """As those of Gymnasium's own vector environments."""
    envs: Any = gym.make_vec("llmsched_env:LLMSched-v0", num_envs=3, requests=10)
    envs.reset(seed=7)
    assert envs.unwrapped.np_random_seed == (7, 8, 9)
    envs.reset(seed=[5, None, 6])
    assert envs.unwrapped.np_random_seed == (5, 8, 6)
    assert len(envs.unwrapped.np_random) == 3


def test_a_search_of_the_controller_that_cannot_work_warns() -> None:
    """Where max_batch is not well above alpha; not otherwise."""
    for most, warned in ((1, ""), (8, "to b_min"), (16, "to b_min"), (24, "far below"), (32, ""), (128, "")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_of_narrow_search(SimConfig(parse_servers("ideal"), max_batch=most))
        said = [str(one.message) for one in caught if "alpha" in str(one.message)]
        assert len(said) == bool(warned) and all(warned in text for text in said)
    ended = run("--max-batch", "8", "--policies", "static")
    assert ended.code == 0 and "alpha=16" in " ".join(ended.out.split())


def test_a_missing_trace_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmark.py took minutes to find out."""
    monkeypatch.setattr(experiment, "contest_of", None)  # what would begin
    run("--trace", tmp_path / "gone.csv", main=benchmark.main).refused("gone.csv")


def test_the_search_in_hindsight_is_kept_on_disk() -> None:
    """A closure over a compiled function has another key in every process: nothing of the entries closes over one."""
    for entry in (plan_search.carry_out, plan_search.anneal):
        cells = getattr(entry, "py_func", entry).__closure__ or ()
        assert [type(cell.cell_contents) for cell in cells] == [str]


@pytest.mark.figures
def test_figures_are_freed(tmp_path: Path) -> None:
    """Many commands in one process hold no figure."""
    from matplotlib.figure import Figure

    def alive() -> set[int]:
        gc.collect()
        return {id(one) for one in gc.get_objects() if type(one) is Figure}  # isinstance would ask dead proxies

    before = alive()  # other tests of this process may hold some
    assert run("--report", tmp_path / "x.html").code == 0
    assert alive() <= before


def test_ctrl_c_is_heeded_within_a_second_in_a_long_draw_and_in_an_endless_policy(tmp_path: Path) -> None:
    """Compiled code in threads leaves the main thread free: exit code 130 and one line."""
    (tmp_path / "my.py").write_text(
        "def mine(record, params, memory, rng):\n    while record.now >= 0:\n        memory[0] += 1\n    return 0, 1\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "eval" / "compare.py"), "--help"], capture_output=True, check=True)
    to_import = time.monotonic() - began  # before that, Ctrl-C ends the program without a line
    for words in (
        ["--policies", f"{tmp_path}/my.py:mine"],
        ["--rate", "6e-5", "--requests", "2000", "--policies", "static"],
    ):
        command = [sys.executable, str(ROOT / "eval" / "compare.py"), "--seeds", "1", "--jobs", "1", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            time.sleep(6 + 2 * to_import)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                error = process.communicate(timeout=20)[1]
                assert process.returncode == 130 and b"interrupted" in error and b"Traceback" not in error
            else:
                assert words[0] == "--rate"  # this machine was quick enough
