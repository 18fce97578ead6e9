"""A fuzzer of command lines: whatever is typed, the command ends with a result, or with one line and exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval.cli.options import FLAGS, written
from llmsched_env.options.kinds import Choice, Number
from tests.faults.tools import run

LINES = 200
BAD = [
    "",
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e-300",
    "1e300",
    "9" * 400,
    "x",
    "None",
    "True",
    "0x10",
    "1_0",
    "١",
    "1,2",
    ":",
    "=",
    ",",
]
BAD += [
    "a:b",
    "()",
    "[]",
    "{}",
    "../..",
    "/",
    "-",
    "\x1b[31m",
    "\udcff",
    "%s",
    "$x",
    "1e",
    "auto",
    "none",
    "ttft:1:2",
    "a=1",
    "a=0.5,e2el:",
]
POLICIES = [
    "static",
    "dynamic",
    "multibin",
    "edf",
    "static:batch=4",
    "static:batch=x",
    "fcfs",
    "statik",
    "static:",
    "static:batch",
]
POLICIES += [
    ":",
    "static,,dynamic",
    "network:path=gone",
    "gone.py:mine",
    "static:overdue=2",
    "static:batch=none",
    "random",
]
SKIPPED = {"load", "controller"}
"""Their good values search for capacities, which takes seconds."""


def good_values(name: str) -> list[str]:
    """Values of an option that may be right."""
    option = FLAGS[name]
    kind = option.flag_kind or option.kind
    if isinstance(kind, Choice):
        return list(kind.words)
    found = [written(option, value) for value in (option.default_in("batch", flag=True),) if value is not None]
    if isinstance(kind, Number):
        found += [str(value) for value in (1, 2, 3.5, kind.low) if kind.accepts(value)]
    return [value for value in found if " " not in value]


def line_of(rng: np.random.Generator, folder: Path) -> list[str]:
    """A command line: a few options, most of them right."""
    words = ["--policies", str(rng.choice(POLICIES))] if rng.random() < 0.7 else []
    for name in rng.choice(sorted(FLAGS), rng.integers(1, 5), replace=False).tolist():
        good = good_values(name) if name not in SKIPPED else []
        bad = not good or rng.random() < 0.4
        value = str(rng.choice(BAD if bad else good))
        if FLAGS[name].name in ("requests", "duration_s") and not bad:
            value = "30"
        words += [FLAGS[name].flag, *([] if rng.random() < 0.02 else [value])]
    others: list[list[str]] = [
        ["--seeds", "x"],
        ["--jobs", "0"],
        ["--out", f"{folder}/out"],
        ["--json"],
        ["--nothing"],
        ["more"],
    ]
    others += [["--report", str(folder)], ["--timeline", f"{folder}/t.json"], ["--out", "/dev/null"], ["--seed", "1e3"]]
    if rng.random() < 0.3:
        words += others[rng.integers(len(others))]
    return words


@pytest.mark.filterwarnings("ignore")
def test_whatever_is_typed_ends_well(tmp_path: Path) -> None:
    """200 command lines of a fixed seed: no traceback, exit code 0 with a result or 2 with one line."""
    rng = np.random.default_rng(17)
    codes: dict[int, int] = {0: 0, 2: 0}
    for number in range(LINES):
        words = line_of(rng, tmp_path)
        try:
            ended: Any = run(*words)
        except BaseException as error:
            raise AssertionError(f"line {number}: {words}") from error
        assert ended.code in codes, (words, ended)
        codes[ended.code] += 1
        lines = [line for line in ended.err.splitlines() if "warning:" not in line]
        assert ended.out if ended.code == 0 else not ended.out and len(lines) == 1 and ": error: " in lines[0], (
            words,
            ended,
        )
        assert "\x1b" not in ended.out + ended.err and len(ended.err) < 3000, (words, ended)
    assert min(codes.values()) > LINES // 25, codes  # both ends are tried
