"""Policies of users: whatever their code does, memory is safe, a run ends with a line, results are of this code."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from llmsched.policies import Policy, parse
from llmsched_env.config import SimConfig
from llmsched_env.servers import parse_servers
from tests.faults.tools import ROOT, run, run_process

MINE = "def mine(record, params, memory, rng):\n"


def write(folder: Path, text: str, name: str = "my.py") -> str:
    """The policy ``mine`` of a file with this text."""
    (folder / name).write_text(text)
    return f"{folder / name}:mine"


NUMBA = "from numba import njit\n"
OUT_OF_BOUNDS = {
    "a helper": NUMBA + "@njit\ndef first(row, i):\n    return row[i]\n" + MINE + "    return CALL, 1\n",
    "a helper that was compiled for its types": "from numba import njit, types\n@njit('int64(int64[::1], int64)')\n"
    "def first(row, i):\n    return row[i]\n" + MINE + "    return first(np.zeros(2, np.int64), 2**40), 1\n",
    "a helper that was called before": "from numba import njit\n@njit\ndef first(row, i):\n    return row[i]\n"
    "first(np.zeros(2), 1)\n" + MINE + "    return int(first(memory, 2**40)), 1\n",
    "a plain helper": "def first(row, i):\n    return row[i]\n" + MINE + "    return CALL, 1\n",
    "a helper of a helper": "from numba import njit\n@njit\ndef inner(row, i):\n    return row[i]\n"
    "@njit\ndef first(row, i):\n    return inner(row, i)\n" + MINE + "    return CALL, 1\n",
    "a closure": "from numba import njit\ndef make():\n    @njit\n    def first(row, i):\n        return row[i]\n"
    "    def mine(record, params, memory, rng):\n        return CALL, 1\n    return mine\nmine = make()\n",
    "a function inside": MINE + "    def first(row, i):\n        return row[i]\n    return CALL, 1\n",
    "a helper that writes": "def first(row, i):\n    row[i] = 3\n    return 0\n"
    + MINE
    + "    return first(memory, 2**40), 1\n",
    "a module": "import siblings\n" + MINE + "    return siblings.first(record.queue_length, 1000), 1\n",
    "an imported helper": "from siblings import first\n" + MINE + "    return CALL, 1\n",
}
SIBLING = "from numba import njit\n@njit(cache=True)\ndef first(row, i):\n    return row[i]\nfirst((1, 2), 1)\n"


def test_an_index_out_of_bounds_is_a_line_in_every_helper(tmp_path: Path) -> None:
    """However the helper is written, decorated, imported or compiled before: no crash, no silent number."""
    (tmp_path / "siblings.py").write_text(SIBLING)
    for number, (kind, text) in enumerate(OUT_OF_BOUNDS.items()):
        body = "import numpy as np\n" + text.replace("CALL", "first(record.queue_length, 1000)")
        ended = run("--policies", write(tmp_path, body, f"my{number}.py"))
        assert "IndexError" in ended.refused("the policy failed at t ="), kind


CIRCLES = {
    "itself": "from numba import njit\n@njit\ndef down(x):\n    return down(x + 1) if x >= 0 else 0\n",
    "two": "from numba import njit\n@njit\ndef up(x):\n    return down(x) if x >= 0 else 0\n"
    "@njit\ndef down(x):\n    return up(x + 1) if x >= 0 else 0\n",
    "plain": "def down(x):\n    return down(x + 1) if x >= 0 else 0\n",
}


@pytest.mark.parametrize("kind", CIRCLES)
def test_endless_recursion_is_refused(tmp_path: Path, kind: str) -> None:
    """It would end the process."""
    run("--policies", write(tmp_path, f"{CIRCLES[kind]}{MINE}    return down(1), 1\n")).refused("circle of calls")


def test_a_policy_that_calls_itself_is_refused(tmp_path: Path) -> None:
    """Directly."""
    run("--policies", write(tmp_path, f"{MINE}    return mine(record, params, memory, rng)\n")).refused(
        "circle of calls"
    )


REFUSED = {
    "a fraction": ("return 0, 1.5", "whole numbers"),
    "NaN": ("return 0, params.sum() / 0.0", "whole numbers"),
    "a bin with a fraction": ("return record.now, 1", "whole numbers"),
    "NumPy's generator": ("return 0, int(np.random.random() * 3) + 1", "global generator"),
    "NumPy's generator, imported": ("return 0, int(rand() * 3) + 1", "global generator"),
    "Python's generator": ("return 0, random.randint(1, 3)", "global generator"),
    "AssertionError": ("assert record.now < 0\n    return 0, 1", "AssertionError"),
    "MemoryError": ("if record.now >= 0:\n        raise MemoryError\n    return 0, 1", "MemoryError"),
    "too much memory": ("return 0, np.zeros(2**60).size", "the policy failed"),
    "RuntimeError": ("if record.now >= 0:\n        raise RuntimeError('no')\n    return 0, 1", "RuntimeError: no"),
    "ends the program": ("if record.now >= 0:\n        raise SystemExit(0)\n    return 0, 1", ""),
}
HEAD = "import random\nimport numpy as np\nfrom numpy.random import rand\n"


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_policy_may_not_do(tmp_path: Path, kind: str) -> None:
    """One line, exit code 2."""
    body, said = REFUSED[kind]
    run("--policies", write(tmp_path, f"{HEAD}{MINE}    {body}\n")).refused(said)


HEADING = "from llmsched.policies import policy\n@policy("

FILES = {
    "ends the program": "import sys\nsys.exit(0)\n",
    "ends the program, quietly": "raise SystemExit\n",
    "no default": HEADING + "'mine', params={'x': None})\n" + MINE + "    return 0, 1\n",
    "a truth value": HEADING + "'mine', params={'x': True})\n" + MINE + "    return 0, 1\n",
    "engines": HEADING + "'mine', engines=('bach',))\n" + MINE + "    return 0, 1\n",
    "memory": HEADING + "'mine', memory=10**15)\n" + MINE + "    return 0, 1\n",
    "too deep": "x = " + "(" * 5000 + ")" * 5000 + "\n",
    "zero byte": "x = 1\0\n",
}
HOOKS = ("queueing", "controller", "continuous", "adapt", "load")
ANSWERS = ("None", "3", "{'nothing': 1}", "1 / 0", "(1,)", "('x', 1)", "([[1.0]], 1)", "([1.0], 1e18)")


@pytest.mark.parametrize("kind", FILES)
def test_files_that_do_not_load(tmp_path: Path, kind: str) -> None:
    """Never exit code 0, never a traceback."""
    run("--policies", write(tmp_path, FILES[kind])).refused("my.py")


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_that_fail(hook: str) -> None:
    """Whatever they return or raise, where the policy is made ready (not compiled here, which takes long)."""
    config = SimConfig(parse_servers("ideal"))
    for answer in ANSWERS:
        hooks: dict[str, Any] = {hook: eval(f"lambda *_: {answer}")}
        found = Policy("mine", parse("static").policy.function, "", {}, **hooks)
        vars(found)["decide"] = None
        with pytest.raises(ValueError, match="^mine: "):
            found.bind().ready(config)


def test_helpers_and_modules_beside_the_file_work(tmp_path: Path) -> None:
    """Plain helpers, decorated ones, those of a module beside the file, constants; a library keeps its own name."""
    (tmp_path / "siblings.py").write_text("STEP = 2\ndef half(x):\n    return x // STEP\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')\n")
    head = "import json\nimport siblings\nfrom siblings import half\n"
    text = f"{head}{MINE}    return record.num_bins, max(1, half(siblings.half(record.waiting)))\n"
    assert run("--policies", write(tmp_path, text)).code == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "siblings.py").write_text("def half(x):\n    return 10 * x\n")
    name = write(other, f"from siblings import half\n{MINE}    return record.num_bins, half(1)\n")
    parse(name)
    assert json.__name__ == "json"


def test_a_changed_module_of_a_policy_is_not_taken_from_the_store(tmp_path: Path) -> None:
    """The constant, and the helper, that it imports count as its code."""
    out, sibling = tmp_path / "out", tmp_path / "settings.py"
    name = write(tmp_path, f"from settings import SIZE\n{MINE}    return record.num_bins, SIZE\n")
    sizes = []
    for size in (1, 4, 1):
        sibling.write_text(f"SIZE = {size}\n")
        ended = run("--policies", name, "--out", out, "--json")
        assert ended.code == 0, ended
        sizes.append(json.loads(ended.out)["policies"][0]["mean_batch_size"])
    assert sizes[0] == sizes[2] < sizes[1]
    assert len((out / "cells.jsonl").read_bytes().splitlines()) == 2


def test_what_a_policy_prints_is_no_result(tmp_path: Path) -> None:
    """Its file and its compiled code print to standard error: --json stays JSON."""
    name = write(tmp_path, f"print('at import')\n{MINE}    print('deciding')\n    return record.num_bins, 1\n")
    ended = run_process(f"$COMPARE --json --policies {name}")
    assert ended.returncode == 0 and json.loads(ended.stdout)["policies"], ended
    assert b"at import" in ended.stderr and b"deciding" in ended.stderr


FILM_POLICIES = """def first(row, i):
    return row[i]

def outside(record, params, memory, rng):
    return first(record.queue_length, 1000), 1

def no_bin(record, params, memory, rng):
    return 77, 1
"""
FILMS = {
    "a helper's index": (["my.py:outside"], "IndexError"),
    "a bin that is not there": (["my.py:no_bin"], "action (77, 1)"),
    "an unknown policy": (["statik"], "Did you mean static?"),
    "a policy of the other engine": (["fcfs"], "belongs to the engine"),
    "a device": (["static", "-o", "/dev/null"], "a device"),
    "no number": (["static", "--fps", "nan"], "--fps: 'nan'"),
    "a film that nothing writes": (["static", "-o", "x.nothing"], ""),
}


@pytest.mark.parametrize("kind", FILMS)
def test_a_film_of_a_policy_refuses_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A policy is asked from Python there: its helpers' indices are checked all the same."""
    pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib, which the plots need")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(FILM_POLICIES)
    words, said = FILMS[kind]
    main = runpy.run_path(str(ROOT / "examples" / "video.py"))["main"]
    ended = run(*words, *([] if "-o" in words else ["-o", "x.png"]), "--start", "5", "--seconds", "2", main=main)
    ended.refused(said)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("x.")]
