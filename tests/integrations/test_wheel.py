"""The installed wheel, far from any checkout: its names, the environment, the policies, a comparison, the shipped data.

`make test-wheel` builds the wheel, installs it with its dependencies into an environment of its own, copies this file
to an empty folder and runs it there in Python's isolated mode: nothing can come from the checkout.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import llmsched
import llmsched_env
from llmsched import policies
from llmsched.eval import compare
from llmsched.eval.report import page
from llmsched.policies.network import checkpoint
from llmsched_env.profiles import load_profile, shipped_profiles

SITE = Path(sysconfig.get_paths()["purelib"]).resolve()

pytestmark = pytest.mark.skipif(
    not Path(llmsched_env.__file__).resolve().is_relative_to(SITE), reason="no wheel is installed: make test-wheel"
)


def test_nothing_comes_from_a_checkout() -> None:
    """Both packages lie in site-packages, and the one that looks for a checkout beside itself found none."""
    for package in (llmsched, llmsched_env):
        assert {Path(path).resolve() for path in package.__path__} == {SITE / package.__name__}


def test_only_two_names_are_installed() -> None:
    """No generic name (`policies`, `eval`, `train`, `data`, `tests`) in the user's site-packages."""
    files = metadata.files("llmsched")
    assert files is not None and len(files) > 100
    tops = {file.parts[0] for file in files} - {".."}  # the command lies outside of site-packages, in bin/
    assert {name for name in tops if not name.endswith(".dist-info")} == {"llmsched", "llmsched_env"}
    for name in ("policies", "eval", "train", "data", "tests"):
        assert importlib.util.find_spec(name) is None, name
    for name in ("policies", "eval", "train"):
        assert importlib.util.find_spec(f"llmsched.{name}") is not None, name


@pytest.mark.parametrize("name", ["LLMSched-v0", "LLMSchedContinuous-v0"])
def test_an_episode(name: str) -> None:
    """`gym.make` with the name of the module makes an environment whose episode ends with a result."""
    env = gym.make(f"llmsched_env:{name}", requests=30)
    observation, _ = env.reset(seed=1)
    assert observation in env.observation_space
    env.action_space.seed(1)
    over, steps, info = False, 0, dict[str, Any]()
    while not over:
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        over, steps = terminated or truncated, steps + 1
        assert steps < 10_000
    assert info["episode_metrics"]["completed"] == 30


def test_policies_are_registered() -> None:
    """Every policy is there without an import of its own file."""
    assert {"static", "dynamic", "multibin", "network"} <= set(policies.names())


@pytest.mark.parametrize("engine", ["batch", "continuous"])
def test_a_comparison(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a row for each policy; the learned one finds its weights, the workload its generator."""
    names = ["static", "network"]
    options = ["--policies", ",".join(names), "--requests", "200", "--seeds", "1", "--engine", engine]
    assert compare.main(options) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    header = next(i for i, words in enumerate(lines) if words[0] == "policy")
    rows = lines[header + 3 : header + 5]  # under the units and a rule
    assert [words[0] for words in rows] == names
    assert all(0 < float(words[1].rstrip("*")) <= 100 for words in rows)  # SLO met, %


def test_the_python_interface() -> None:
    """A scenario, two policies, a DataFrame."""
    result = llmsched.compare(["static", "network"], llmsched.Scenario(requests=100), seeds=1)
    assert list(result.means().index) == ["static", "network"] and len(result.runs()) == 2


def test_the_shipped_profiles_are_found() -> None:
    """Every profile can be read."""
    assert "h100-80gb_llama2-70b_tp4" in shipped_profiles()
    for name in shipped_profiles():
        assert load_profile(name).coefficients


def test_the_shipped_weights_are_found() -> None:
    """A network for each engine, one of gradient training, and one for the small environment."""
    assert {path.name for path in checkpoint.WEIGHTS.glob("*.npz")} == {
        "network-batch.npz",
        "network-continuous.npz",
        "network-small.npz",
        "ppo-batch.npz",
    }


def test_the_parts_of_the_report_are_found() -> None:
    """The report page is made of a template, a style sheet and a script."""
    assert {path.suffix for path in page.PARTS.iterdir()} >= {".html", ".css", ".js"}


def llmsched_command(*words: str) -> subprocess.CompletedProcess[str]:
    """The program that the wheel installs."""
    program = Path(sysconfig.get_paths()["scripts"]) / "llmsched"
    return subprocess.run([str(program), *words], capture_output=True, text=True, check=False, timeout=600)


def test_the_command_lists_and_compares() -> None:
    """``llmsched --help`` names what there is; ``llmsched compare`` is eval/compare.py."""
    shown = llmsched_command("--help")
    assert shown.returncode == 0 and {"compare", "capacity", "profiles"} <= set(shown.stdout.split())
    compared = llmsched_command("compare", "--policies", "static", "--requests", "50", "--seeds", "1")
    assert compared.returncode == 0 and "SLO met" in compared.stdout, compared
    missing = llmsched_command("calibrate")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1 and "pip install torch" in missing.stderr


@pytest.mark.parametrize("words", ["profiles", "compare --help", "capacity --help", "warmup --for comparisons"])
def test_commands_run(words: str) -> None:
    """They find what they need in the wheel."""
    ended = llmsched_command(*words.split())
    assert ended.returncode == 0 and ended.stdout, ended


@pytest.mark.parametrize(
    "name",
    [
        "llmsched.policies.rules.static",
        "llmsched.train.sb3_vec_env",
        "llmsched.train.systems",
        "llmsched_env.config",
        "llmsched_env.profiles",
        "llmsched_env.requests",
        "llmsched_env.servers",
        "llmsched_env.simulation.simulator",
        "llmsched_env.workload",
    ],
)
def test_what_the_docs_import_is_there(name: str) -> None:
    """But for learners, which are no part of the base."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert (error.name or "").partition(".")[0] in ("stable_baselines3", "torch", "cma"), error
