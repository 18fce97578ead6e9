"""A user's own policy, from a file or registered by a decorator."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import config as numba_config
from numpy.typing import NDArray

from llmsched.policies import choice, get, names, number, parse, policy
from llmsched.policies.parameters import Text
from llmsched_env.config import SimConfig
from llmsched_env.simulation.simulator import simulate
from tests.policies.page import PAGE, SYSTEM
from tests.policies.tools import Asked, config, requests, run


def write(folder: Path, body: str, name: str = "my.py") -> str:
    """A file with ``body``; returns its path."""
    path = folder / name
    path.write_text(body, encoding="utf-8")
    return str(path)


def blocks() -> list[str]:
    """The Python examples of the page."""
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    plain, decorated, _ = blocks()
    assert len(plain.strip().splitlines()) <= 10
    bound = parse(f"{write(tmp_path, plain)}:mine")
    assert (bound.name, bound.policy.summary) == ("mine", "The longest queue, half of what waits in it")
    result = run(bound, config(2), requests())
    assert result.counts["completed"] == 500
    assert bound.text == bound.label == f"{tmp_path}/my.py:mine"

    file = write(tmp_path, decorated, "patient.py")
    other = parse(f"{file}:patient:batch=8:wait=500")
    theirs = parse("timeout:batch=8:wait=500")
    first, second = (run(bound, config(2), requests()).requests["completion"] for bound in (other, theirs))
    np.testing.assert_array_equal(first, second)
    assert parse(f"{file}:patient:batch=auto").autos == {"batch": (8, 16, 32)}
    assert "patient" in names()


def test_the_python_lines_of_the_page_run() -> None:
    _, _, lines = blocks()
    found: dict = {}
    exec(compile(lines, "page", "exec"), found)
    bound = found["bound"]
    drawn = requests(50)
    ready = bound.ready(config())
    result = simulate(ready.config, drawn, ready.decide, **ready.options)
    assert result.counts["completed"] == 50


def test_a_function_of_numba_and_helpers_in_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "from numba import njit\nHALF = 2\n"
        "@njit\ndef half(n):\n    return n // HALF\n"
        "@njit\ndef mine(record, params, memory, rng):\n    return record.num_bins, max(1, half(record.waiting))\n",
    )
    assert Asked(f"{file}:mine")((6, 3)) == (2, 4)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    body = "from llmsched.policies import policy\n@policy('changing')\n"
    body += "def f(record, params, memory, rng):\n    return 0, {}\n"
    file = write(tmp_path, body.format(3))
    assert Asked(f"{file}:changing")() == (0, 3)
    assert parse(f"{file}:changing").policy is parse(f"{file}:changing").policy  # run and compiled once
    assert Asked(f"{file}:f")() == (0, 3)  # by the function's name too
    os.utime(write(tmp_path, body.format(4)), ns=(1, 1))
    assert Asked(f"{file}:changing")() == (0, 4)
    assert Asked("changing")() == (0, 4)


DEF = "def mine(record, params, memory, rng):\n    return "

COMPILED = pytest.mark.skipif(numba_config.DISABLE_JIT, reason="nothing is compiled")  # type: ignore[attr-defined]

IF = "def mine(record, params, memory, rng):\n    if record.now > 3:\n        return 0, 1\n"


def refusal(folder: Path, body: str) -> str:
    """What is said about the policy `mine` in a file with ``body``."""
    file = write(folder, body)
    with pytest.raises(ValueError, match=r"mine|my\.py|static") as caught:
        parse(f"{file}:mine")
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "")


@COMPILED
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            f"{DEF}0, record.queue_lenght[0]\n",
            "the record has no field 'queue_lenght'. Did you mean queue_length? (line 2)",
        ),
        (f"{DEF}0, record['waitin']\n", "the record has no field 'waitin'. Did you mean waiting? (line 2)"),
        (f"{DEF}record.num_bins\n", "it must return (bin, size) on every path, and returns int64 (line 2)"),
        (f"{DEF}0, 'x'\n", "it must return (bin, size) on every path, and returns Tuple(int, str) (line 2)"),
        (IF, "it must return (bin, size) on every path, and returns none (line "),
        (DEF.replace("return", "raise ValueError\n"), "it must return (bin, size) on every path, and returns none"),
        (f"{DEF}0, foo(3)\n", "NameError: name 'foo' is not defined (line 1)"),
        (f"{DEF}0, record.target.foo\n", "Unknown attribute 'foo' of type array (line 2)"),
        (
            f"import os\n{DEF}0, os.getpid()\n",
            "Unknown attribute 'getpid' of type Module(<module 'os' (frozen)>) (line 3)",
        ),
        (f"{DEF}0, __import__('os').getpid()\n", "Untyped global name '__import__'"),
        (f"{DEF}0, 1\n".replace("return", "import math\n    return"), "it cannot import inside the function (line 2)"),
    ],
)
def test_refused_functions(tmp_path: Path, body: str, reason: str) -> None:
    said = refusal(tmp_path, body)
    assert said.startswith(f"policy mine cannot be compiled: {reason}".replace("(line", "(my.py line"))
    assert len(said) < 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def mine(record):\n    return 0, 1\n",
            "mine(record) is not a policy: give def mine(record, params, memory, rng), or "
            "def mine(observation, mask) for a Python function of the environment's observation.",
        ),
        (
            "def mine(record, params, memory, *rng):\n    return 0, 1\n",
            "mine(record, params, memory, *rng) is not a policy",
        ),
        ("def other(record, params, memory, rng):\n    return 0, 1\n", "/my.py: no policy 'mine'. It has other."),
        ("def mined(record, params, memory, rng):\n    return 0, 1\n", "/my.py: no policy 'mine'. Did you mean mined?"),
        ("mine = 3\n", "/my.py: no policy 'mine'. It has no function."),
        ("def mine(:\n", "/my.py line 1: SyntaxError: "),
        ("x = 1\ny = x / 0\n", "/my.py line 2: ZeroDivisionError: division by zero"),
        (
            f"from llmsched.policies import policy\n@policy('static')\n{DEF}0, 1\n",
            ": ValueError: the name 'static' is taken by static.py: choose another.",
        ),
    ],
)
def test_refused_files(tmp_path: Path, body: str, message: str) -> None:
    assert message in refusal(tmp_path, body)
    assert get("static").file.name == "static.py"


@COMPILED
@pytest.mark.parametrize("index", ["memory[1]", "params[0]", "record.target[34]", "record.target[-35]"])
def test_a_wrong_index_is_an_error(tmp_path: Path, index: str) -> None:
    ask = Asked(f"{write(tmp_path, f'{DEF}0, int({index})')}:mine")
    with pytest.raises(IndexError):
        ask()


def test_refused_paths(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.py: there is no such file\. Give FILE\.py:FUNCTION"):
        parse(f"{tmp_path}/gone.py:mine")
    file = write(tmp_path, f"{DEF}0, 1\n")
    for text in (file, f"{file}:"):
        with pytest.raises(ValueError, match=r"give FILE\.py:NAME\. It has mine\."):
            parse(text)
    with pytest.raises(ValueError, match=r"mine has no parameter 'batch'\. .*It has overdue, overdue_batch"):
        parse(f"{file}:mine:batch=4")


def test_registration() -> None:
    @policy("weighted", params={"weight": 0.25, "mode": choice("up", "down"), "limit": number(None, 0)}, memory=3)
    def weighted(record, params, memory, rng):
        """Some words.

        More of them.
        """
        return record.num_bins, int(params[0] * 4 + params[1])

    assert weighted.summary == "Some words"
    assert parse("weighted:mode=down").encoded == {"weight": 0.25, "mode": 1.0, "limit": math.inf}
    assert Asked("weighted:mode=down:weight=-5")() == (1, -19)
    assert parse("weighted:limit=3").ready(SYSTEM).memory_size == 3
    with pytest.raises(ValueError, match=r"weight=inf is not allowed: give a number\."):
        parse("weighted:weight=inf")
    with pytest.raises(ValueError, match="give a name without spaces"):
        policy("a:b")
    with pytest.raises(ValueError, match="parameter 'max-wait' is not allowed"):
        policy("other", params={"max-wait": 1.0})(weighted.function)


def test_a_policy_may_load_its_params() -> None:
    """What a learned policy needs: weights in params, room in memory, from a file and for the engine it runs in."""
    loads: list[str] = []

    def load(values: Mapping[str, Any], config: SimConfig) -> tuple[NDArray[np.float64], int]:
        loads.append(config.engine)
        return np.full(len(values["path"]), 7.0 if config.engine == "batch" else 8.0), 11

    @policy("loaded", params={"path": Text("small")}, load=load)
    def loaded(record, params, memory, rng):
        """Some weights."""
        return record.num_bins, len(params)

    bound = parse("loaded:path=larger")
    for system, weight in ((SYSTEM, 7.0), (replace(SYSTEM, engine="continuous"), 8.0), (SYSTEM, 7.0)):
        ready = bound.ready(system)
        assert (ready.params.tolist(), ready.memory_size) == ([weight] * 6, 11)
    assert bound.text == "loaded:path=larger" and loads == ["batch", "continuous"]  # a file is read once a system
    assert Asked("loaded")() == (1, 5)
