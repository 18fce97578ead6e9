"""The docstring is the manual: its tables come from the code, its examples run, its page is up to date."""

from __future__ import annotations

import doctest
import inspect
import math
import re
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import llmsched_env.envs.scalar
from llmsched_env.core.constants import MAX_SERVERS
from llmsched_env.envs import manual
from llmsched_env.envs.options import DEFAULT_REWARD, EnvOptions
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.envs.spaces import ladder
from tests.envs.env_tools import discrete_of, rollout

ROOT = Path(__file__).resolve().parents[2]
MANUAL = LLMSchedEnv.__doc__ or ""

HEADINGS = [
    *("Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End", "Information"),
    *("Arguments", "Rendering", "Vectorized environment", "Version History"),
]


def rows_of(heading: str) -> list[list[str]]:
    """Cells of all tables under a heading, heads left out."""
    part = MANUAL.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    heads = {i for i, line in enumerate(lines) if set(line) <= set("|-")}
    kept = [line for i, line in enumerate(lines) if i not in heads and i + 1 not in heads]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in kept]


def test_headings() -> None:
    """In the order of Gymnasium's own pages."""
    assert re.findall(r"^## (.*)$", MANUAL, flags=re.M) == HEADINGS
    assert inspect.getdoc(LLMSchedEnv) == MANUAL


def test_every_placeholder_is_filled() -> None:
    """No braces of the template are left, and no line is cut by one."""
    assert not re.search(r"\{[A-Z_]+\}", MANUAL)
    assert manual.filled("a\n    b {GLOBAL}").count("| 19 |") == 1
    assert manual.filled(None) == ""


def test_tables_have_the_width_of_their_head() -> None:
    """As many cells in every row."""
    for block in re.findall(r"(?:^\|.*\n)+", MANUAL, flags=re.M):
        widths = {len(re.findall(r"(?<!\|)\|(?!\|)", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_every_argument_with_its_default() -> None:
    """The table is EnvOptions, in order, and then what the constructor adds."""
    rows = rows_of("Arguments")
    names = [row[0].strip("`") for row in rows]
    own = list(inspect.signature(LLMSchedEnv.__init__).parameters)[1:-1]
    assert names[: len(fields(EnvOptions))] == [field.name for field in fields(EnvOptions)]
    assert sorted(names[len(fields(EnvOptions)) :]) == sorted(own)
    for field, row in zip(fields(EnvOptions), rows, strict=False):
        default = getattr(EnvOptions(), field.name)
        assert eval(row[1].strip("`"), {"math": math}) == default, field.name
        assert len(row[2]) > 10, field.name


def test_weights_and_metrics_are_those_of_the_code() -> None:
    """Default weights, keys of info and of the episode's metrics."""
    assert {row[0].strip("`"): float(row[2]) for row in rows_of("Rewards")} == DEFAULT_REWARD
    keys = {row[0].strip("`"): row[1] for row in rows_of("Information")}
    info = rollout(LLMSchedEnv(requests=10), 0)[-1][4]
    assert keys.keys() == info.keys()
    for name in info["episode_metrics"]:
        assert f"`{name}`" in keys["episode_metrics"]


def test_numbers_in_the_text() -> None:
    """The ladder's formula and the scales whose constants live elsewhere."""
    env = LLMSchedEnv(action="ladder")
    assert discrete_of(env).n == 1 + (env._lanes.limits.max_bins + 1) * len(ladder(128))
    assert "Discrete(1 + (max_bins + 1) * rungs)" in MANUAL
    assert math.log2(MAX_SERVERS) == 7.0 and "log2(x) / 7" in MANUAL
    assert env.observation_space.shape == (20 + 13 * 5,) and "20 + 13 (max_bins + 1) entries" in MANUAL


def test_examples_run() -> None:
    """The doctests of the docstring."""
    result = doctest.testmod(llmsched_env.envs.scalar)
    assert result.attempted >= 8 and result.failed == 0


def test_the_page_is_the_docstring() -> None:
    """docs/reference/environment.md is what docs/tools/make_environment_page.py makes today."""
    module = runpy.run_path(str(ROOT / "docs" / "tools" / "make_environment_page.py"))
    text = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    assert text == module["page"](), "the docstring has changed: run python docs/tools/make_environment_page.py"
    assert MANUAL in text
    for name in re.findall(r"\]\(([\w./]+)\)", text):
        assert (ROOT / "docs" / "reference" / name).is_file(), name
    for name in re.findall(r"\b(?:docs|eval|llmsched_env)/[\w/]+\.(?:md|py)", text):
        assert (ROOT / name).is_file(), name


def test_the_check_of_the_page_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--check` tells an old page from a fresh one."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "tools")  # as when the tool is run
    module = runpy.run_path(str(ROOT / "docs" / "tools" / "make_environment_page.py"))
    main = module["main"]
    main.__globals__["PAGE"] = tmp_path / "environment.md"
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "environment.md").write_text("old", encoding="utf-8")
    assert main(["--check"]) == 1
    assert main(["--what"]) == 2


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_the_film(suffix: str, tmp_path: Path) -> None:
    """examples/video.py writes a still and a film of two schedulers, side by side or stacked."""
    image = pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib, which the plots need")
    path = tmp_path / f"film.{suffix}"
    size = ["--width", "640", "--height", "420", *(["--stacked"] if suffix == "png" else [])]
    command = ["examples/video.py", "static", "multibin", "-o", str(path), "--start", "5", "--seconds", "2", *size]
    run = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    film = image.open(path)
    assert film.size == ((640, 840) if suffix == "png" else (1280, 420))
    assert getattr(film, "n_frames", 1) == (1 if suffix == "png" else 4)
