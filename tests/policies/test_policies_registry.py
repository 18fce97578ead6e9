"""What a user types, a user's own file, and the page that explains both."""

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

from llmsched.policies import choice, get, names, number, parse, parse_list, policy, registry
from llmsched.policies.parameters import Choice, Parameter, Text, show
from llmsched_env.config import Controller, Queueing, Server, SimConfig
from llmsched_env.core.layout import RECORD
from llmsched_env.profiles import load_profile
from llmsched_env.simulation.simulator import simulate
from tests.policies.tools import CONTINUOUS, EVERY, Asked, config, requests, run

SYSTEM = SimConfig((Server(load_profile("h100-80gb_llama2-70b_tp4")),))
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "policies.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_POLICIES", dict(registry._POLICIES))


# What is typed -----------------------------------------------------------------------------------------------------


def test_every_policy_is_registered() -> None:
    assert set(EVERY) | set(CONTINUOUS) <= set(names())
    assert set(EVERY) <= set(names("batch")) and not set(CONTINUOUS) & set(names("batch"))
    assert set(CONTINUOUS) <= set(names("continuous"))
    for name in names():
        made = get(name)
        assert made.name == name
        assert 20 < len(made.summary) < 120
        assert made.clairvoyant == name.startswith("oracle-")


def test_parse() -> None:
    bound = parse(" timeout:batch=16: wait = 200 ")
    assert (bound.name, bound.label, bound.text) == (
        "timeout",
        "timeout:batch=16: wait = 200",
        "timeout:batch=16:wait=200",
    )
    assert bound.encoded == {"batch": 16.0, "wait": 0.2}
    ready = bound.ready(SYSTEM)
    assert ready.params.tolist() == [16.0, 0.2] and ready.params.dtype == np.float64
    assert (ready.memory_size, ready.details, bound.clairvoyant, bound.autos) == (0, False, False, {})
    assert list(parse("multibin:select=oldest").encoded.values()) == [2.0, math.inf, math.inf]
    assert parse("multibin:cap=none:tbt=none").text == "multibin"
    assert parse("static:batch=1e2").encoded == {"batch": 100.0}
    assert parse(bound.text).text == bound.text
    assert ready.options.keys() == {"params", "memory_size", "details"}
    assert [name for name in names() if parse(name).details] == ["least-slack", "weighted-queue", "network"]


def test_values_keep_their_digits() -> None:
    assert parse("priority:tokens=1234567.25").text == "priority:tokens=1234567.25"
    assert parse("timeout:wait=0.1").encoded["wait"] == 0.1 / 1000.0


def test_parse_list() -> None:
    assert [bound.label for bound in parse_list("static, dynamic ,static:batch=16")] == [
        "static",
        "dynamic",
        "static:batch=16",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "statc",
            r"'statc' is not a policy\. Did you mean static\? Choose one of static, dynamic, .*FILE\.py:FUNCTION",
        ),
        ("", "'' is not a policy"),
        (
            "static:bach=3",
            r"static:bach=3: static has no parameter 'bach'\. Did you mean batch\? It has batch, late, triage",
        ),
        ("random:batch=3", r"random has no parameter 'batch'\. It has late, triage"),
        ("static:batch", "'batch' has no value: write batch=VALUE, batch being a whole number from 1 to 1024 or auto"),
        ("static:batch=0", r"static: batch=0 is not allowed: give a whole number from 1 to 1024 or auto\."),
        ("static:batch=1025", "batch=1025 is not allowed"),
        ("static:batch=2.5", "batch=2.5 is not allowed: give a whole number"),
        ("static:batch=nan", "batch=nan is not allowed"),
        ("static:batch=none", "batch=none is not allowed"),
        ("static:batch=", "batch= is not allowed"),
        ("static:batch=x", "batch=x is not allowed"),
        ("static:batch=3:batch=4", "batch is given twice"),
        ("static:", "static has no parameter ''"),
        ("timeout:wait=inf", "wait=inf is not allowed: give a number of ms from"),
        ("timeout:wait=0", "wait=0 is not allowed"),
        ("multibin:select=olest", "give one of roundrobin, longest, oldest.*Did you mean oldest"),
        ("multibin:cap=auto", "cap=auto is not offered: give a whole number from 1 to 1024 or none"),
        ("adaptive-memory:threshold=1.5", "threshold=1.5 is not allowed: give a number from 0 to 1"),
        ("adaptive-memory:min=40", "min=40, start=8, max=32 contradict: give min <= start <= max"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("static,,dynamic", "'static,,dynamic' has an empty entry"),
        ("", "has an empty entry"),
        ("static,dynamic, static", "static is given 2 times: give it once"),
        ("static,dynamc", "Did you mean dynamic"),
    ],
)
def test_list_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_list(text)


def test_auto_is_left_open() -> None:
    bound = parse("timeout:batch=auto:wait=300")
    assert bound.autos == {"batch": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)}
    for use in (lambda: bound.encoded, lambda: bound.configure(SYSTEM), lambda: bound.ready(SYSTEM)):
        with pytest.raises(ValueError, match="batch is still auto"):
            use()
    chosen = bound.with_params(batch=32)
    assert (chosen.label, chosen.text, chosen.autos) == ("timeout:batch=auto:wait=300", "timeout:batch=32:wait=300", {})
    assert chosen.encoded == {"batch": 32.0, "wait": 0.3}
    with pytest.raises(ValueError, match="batch=0 is not allowed"):
        bound.with_params(batch=0)
    with pytest.raises(ValueError, match=r"no parameter 'bach'.*Did you mean batch"):
        bound.with_params(bach=3)


@pytest.mark.parametrize("name", EVERY)
def test_every_default_and_grid_is_allowed(name: str) -> None:
    made = get(name)
    assert made.bind(made.defaults).text == name
    for key, grid in made.auto.items():
        assert len(set(grid)) == len(grid) > 1
        for value in grid:
            assert parse(f"{name}:{key}={show(value)}").values[key] == value


def test_configure_sets_what_is_named_and_keeps_the_rest() -> None:
    base = SimConfig(
        (Server(load_profile("ideal")),),
        Queueing((10, 20), "sjf", hold_s=7.0, max_tokens=99.0),
        controller=Controller(tbt_s=0.09, alpha=3.0),
    )
    assert parse("static").configure(base) == base
    assert parse("dynamic").configure(base) == base
    assert parse("dynamic:tbt=40").configure(base).controller == Controller(tbt_s=0.04, alpha=3.0)
    assert parse("edf").configure(base).queueing == Queueing((10, 20), "edf", hold_s=7.0, max_tokens=99.0)
    assert parse("timeout:wait=250").configure(base).queueing == Queueing((10, 20), "sjf", hold_s=0.25, max_tokens=99.0)


def test_an_old_name_gives_the_same_policy_and_warns_in_one_line() -> None:
    for text in ("ppo", "ppo:path=runs/first/best"):
        with pytest.warns(UserWarning) as caught:
            bound = parse(text)
        assert bound.policy is get("network") and bound.label == text.replace("ppo", "network") == bound.text
        assert [str(warning.message) for warning in caught] == [
            "`ppo` is the old name of `network`: its weights come from an evolution strategy, not from PPO. "
            "Write network."
        ]
    assert not set(registry.ALIASES) & set(names()) and {alias.name for alias in registry.ALIASES.values()} <= set(
        names()
    )
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="network is given 2 times"):
        parse_list("ppo,network")


# A user's own --------------------------------------------------------------------------------------------------------


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
    assert result.lane["completed"] == 500
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
    assert result.lane["completed"] == 50


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


COMPILED = pytest.mark.skipif(numba_config.DISABLE_JIT, reason="nothing is compiled")
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
            "mine(record) is not a policy: give def mine(record, params, memory, rng).",
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
@pytest.mark.parametrize("index", ["memory[1]", "params[0]", "record.target[33]", "record.target[-34]"])
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
    with pytest.raises(ValueError, match="mine has no parameter 'batch'. It has late, triage"):
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


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_explains_every_field() -> None:
    table = PAGE.split("## The record")[1].split("## The schedulers")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    explained = [name for text in first for name in re.findall(r"`(\w+)`", text)]
    assert explained == list(RECORD.names or ())


def cell(name: str, parameter: Parameter) -> str:
    """A parameter as the page shows it."""
    unit = f" {parameter.unit}" if isinstance(parameter, type(number(0))) and parameter.unit else ""
    if isinstance(parameter, Choice):
        unit = f" ({', '.join(parameter.words)})"
    return f"`{name}={show(parameter.default)}`{unit}{' *auto*' * bool(parameter.auto)}"


@pytest.mark.parametrize("name", [*EVERY, *CONTINUOUS])
def test_the_page_lists_every_policy(name: str) -> None:
    made = get(name)
    parameters = ", ".join(cell(key, parameter) for key, parameter in made.params.items())
    assert f"| `{name}` | {parameters} | {made.summary} |" in PAGE.splitlines()


def test_the_page_lists_nothing_else() -> None:
    table = PAGE.split("## The schedulers")[1].split("###")[0]
    listed = re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)
    ours = [name for name in names() if get(name).file.is_relative_to(registry.OURS)]
    assert listed == ours
