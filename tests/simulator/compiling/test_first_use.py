"""What is compiled ahead is what a run calls."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse
from llmsched_env.compiler.parts import jit_is_off
from llmsched_env.envs.first_use import SMALL, compile_small
from llmsched_env.simulation.metrics import summarize
from llmsched_env.simulation.simulator import simulate


def show_versions() -> None:
    """Compile ahead, make a run of the default workload, and print functions of which there are other versions now."""
    compile_small()
    scenario = scenario_of("--requests", "300")
    ready = parse("static").ready(scenario.config)
    result = simulate(ready.config, scenario.draw(0), ready.decide, **ready.options)
    assert summarize(result)["completed"] == 300
    print([function.py_func.__name__ for function, kinds in SMALL if function.signatures != [kinds]])


@pytest.mark.skipif(jit_is_off(), reason="nothing is compiled")
def test_a_run_compiles_nothing_else() -> None:
    """Every function has the one version that was compiled ahead; in a process where no other test ran."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    show_versions()
