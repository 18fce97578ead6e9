"""README promises two commands and ten lines that train an agent; test_pages.py runs everything else in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.pages import ROOT, blocks

README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "first_agent.md"
TRAINING = next(block.text for block in blocks(TUTORIAL) if "PPO" in block.text and block.language == "python")
"""The block that needs a learner."""


def test_make_targets_exist() -> None:
    """`make NAME` in the README is a target of the Makefile, and the first one runs the command that it says."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [command for block in blocks(README) if block.language == "sh" for command in block.commands]
    targets = [command.split()[1] for command in commands if command.startswith("make ")]
    assert targets == ["compare", "test"]
    for target in [*targets, "bench"]:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    assert "eval/compare.py --policies $(POLICIES)" in makefile
    assert "POLICIES ?= static,dynamic,multibin" in makefile


def test_readme_is_read_in_three_minutes() -> None:
    """At most 1,000 words, the printed table included."""
    assert len(README.read_text(encoding="utf-8").split()) <= 1000


def test_ten_lines_train_an_agent(tmp_path: Path) -> None:
    """They are what examples/train_ppo.py does; where learners are installed they run, with less training."""
    lines = [line for line in TRAINING.splitlines() if line]
    example = (ROOT / "examples" / "train_ppo.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 10 and set(lines) <= set(example)
    judging = next(block.text for block in blocks(TUTORIAL) if "held_out = " in block.text).partition("\n")[2]
    assert set(judging.splitlines()) <= set(example)
    pytest.importorskip("stable_baselines3")
    code = (TRAINING + judging).replace("4_000_000", "8_192").replace("n_eval_episodes=64", "n_eval_episodes=16")
    assert code != TRAINING + judging
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert re.fullmatch(r"episode return: -\d\.\d+\n", run.stdout)
    assert {file.name for file in (tmp_path / "runs" / "first").iterdir()} == {"agent.zip", "vecnormalize.pkl"}
