"""A scenario in Python: the arguments are the options of the command line, and are refused alike."""

from __future__ import annotations

import dataclasses
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched import Scenario
from llmsched.eval.api.scenario import options_of
from llmsched.eval.cli.options import FLAGS, parser_for
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched_env.workload.traces import Trace

ROOT = Path(__file__).resolve().parents[3]

SAME: dict[str, tuple[dict[str, Any], str]] = {  # what is given in Python, and on the command line
    "numbers": (
        {"rate": np.float64(3.5), "requests": np.int64(700), "servers": 2},
        "--rate 3.5 --requests 700 --servers 2",
    ),
    "times": ({"hold_s": 0.5, "duration_s": 60.0, "horizon_s": 90.0}, "--hold 0.5 --duration 60 --horizon 90"),
    "targets": ({"slo": {"ttft": 900, "tpot": 40.0}}, "--goodput ttft:900 tpot:40"),
    "limits by name": ({"slo": "mlperf-70b"}, "--goodput mlperf-70b"),
    "classes": (
        {"slo_classes": {"chat": {"share": 0.8, "ttft": 900}, "rest": {"share": 0.2, "e2el": 60_000}}},
        "--slo-classes chat=0.8,ttft:900 rest=0.2,e2el:60000",
    ),
    "controller": ({"controller": {"kind": "peer", "tbt_s": 0.04, "alpha": 8}}, "--controller peer:tbt=40,alpha=8"),
    "chosen target": ({"controller": {"tbt_s": "auto"}}, "--controller paper:tbt=auto"),
    "number of bins": ({"bins": 2}, "--bins 2"),
    "bounds of bins": ({"bins": [0, 64, 256]}, "--bins (0,64,256)"),
    "engine": ({"engine": "continuous", "routing": "round-robin"}, "--engine continuous --routing round-robin"),
    "named": ({"named": "memory", "predictor": "oracle"}, "--scenario memory --predictor oracle"),
    "load": ({"load": 0.5}, "--load 0.5"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", SAME)
def test_arguments_are_the_options(case: str) -> None:
    """The same scenario, to the last field."""
    arguments, words = SAME[case]
    typed = scenario_from(parser_for("test", "").read(words.split()))
    assert scenario_from(options_of(Scenario(**arguments))) == typed
    assert Scenario(**arguments).describe() == typed.describe()


def test_every_option_of_the_command_line_is_an_argument() -> None:
    """And nothing else, but the scenario that they change."""
    own = [field.name for field in dataclasses.fields(Scenario)]
    assert sorted(own) == sorted(["named", *(option.name for option in FLAGS.values())])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rate": True}, "rate=True is not allowed: give a number above 0"),
        ({"rate": float("nan")}, "rate=nan is not allowed"),
        ({"rate": 3.0, "load": 0.5}, "rate and load exclude each other"),
        ({"requests": 10, "duration_s": 3.0}, "requests and duration_s exclude each other"),
        ({"requests": 2.5}, "requests=2.5 is not allowed: give a whole number"),
        ({"bins": True}, "bins=True is not allowed"),
        ({"bins": "4"}, "bins='4' is not allowed: give a number of bins"),
        ({"bins": (0, 9, 3)}, "bins"),
        ({"slo": {"e2e": 1}}, "slo has no 'e2e'. Did you mean e2el?"),
        ({"slo": {"ttft": True}}, "slo ttft=True is not allowed"),
        ({"slo": 4000}, "slo=4000 is not allowed: give a mapping"),
        ({"slo": "mlperf"}, "'mlperf' is not known"),
        ({"slo_classes": {"a": {"ttft": 3}}}, r"slo_classes['a'] has no share"),
        ({"slo_classes": {"a": {"share": 2, "ttft": 3}}}, "share=2 is not allowed"),
        ({"controller": {"tbt": 3}}, "controller has no 'tbt'. Did you mean tbt_s?"),
        ({"controller": {"tbt_s": -1}}, "controller tbt_s=-1 is not allowed"),
        ({"predictor": "nosy"}, "Did you mean noisy?"),
        ({"engine": "vllm"}, "engine='vllm' is not known. Choose one of batch, continuous"),
        ({"named": "x"}, "named='x' is not known. Choose one of default"),
        ({"discipline": "oracle-sjf"}, "discipline='oracle-sjf' is not known"),
        ({"workload": 3}, "workload=3 is not allowed"),
    ],
)
def test_refusals(arguments: dict[str, Any], said: str) -> None:
    """When the scenario is made: one line with the value and what is allowed."""
    with pytest.raises(ValueError) as caught:
        Scenario(**arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_only_the_whole_can_refuse() -> None:
    """An option of the other engine, and a file that is not there, when it is simulated."""
    with pytest.raises(ValueError, match="continuous"):
        Scenario(routing="round-robin").describe()
    with pytest.raises(ValueError, match="there is no such file"):
        Scenario(workload=Path("gone.csv")).describe()


def test_a_trace_in_memory() -> None:
    """It has a name in the description, and its own rate."""
    trace = Trace(np.arange(50.0), np.full(50, 100, np.int32), np.full(50, 20, np.int32), name="mine")
    found = Scenario(workload=trace, bins=1).describe()
    assert found["workload"] == "mine" and found["rate"] == pytest.approx(1.0)


def test_replace_changes_a_copy() -> None:
    """And takes an argument back with None."""
    base = Scenario(rate=3.0)
    assert base.replace(load=0.5, rate=None) == Scenario(load=0.5) and base == Scenario(rate=3.0)


def test_the_names_are_loaded_when_they_are_asked_for() -> None:
    """`import llmsched` loads nothing that takes long, and knows them all the same."""
    code = (
        "import sys, llmsched; assert {'Scenario', 'compare'} <= set(dir(llmsched)); "
        "assert not {'numba', 'numpy', 'pandas', 'gymnasium'} & set(sys.modules), sys.modules; "
        "from llmsched import compare; assert callable(compare) and 'numba' in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_page_is_made_of_the_docstrings() -> None:
    """docs/reference/python_api.md is what docs/tools/make_python_api_page.py makes today."""
    module = runpy.run_path(str(ROOT / "docs" / "tools" / "make_python_api_page.py"))
    text = (ROOT / "docs" / "reference" / "python_api.md").read_text(encoding="utf-8")
    assert text == module["page"](), "a docstring has changed: run python docs/tools/make_python_api_page.py"
