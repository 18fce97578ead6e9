"""Every command and every Python block of the README runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = {
    "eval/compare.py": ["--requests", "300", "--seeds", "2"],
    "eval/capacity.py": ["--requests", "300", "--seeds", "2", "--policies", "dynamic,multibin", "--scales", "1"],
    "eval/sla.py": ["--requests", "200", "--seeds", "2", "--memories", "20000,40000"],
    "eval/theory.py": ["--requests", "200", "--seeds", "2", "--bin-counts", "1,2", "--batches", "2", "--sigmas", "0"],
    "eval/levels.py": ["--requests", "1000", "--seeds", "2", "--policies", "dynamic,multibin"],
    "eval/sensitivity.py": ["--requests", "200", "--seeds", "2", "--factors", "rate", "--points", "4"],
    "eval/stress.py": [
        "--sizes",
        "200",
        "--at",
        "200",
        "--server-counts",
        "1,2",
        "--bin-counts",
        "1,2",
        "--loads",
        "1",
    ],
}
"""Added to commands that do not say how much they simulate."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


TRAINING = next(block for block in blocks("python") if "PPO" in block)
"""The block that needs a learner."""

COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_make_targets_exist() -> None:
    """`make NAME` in the README is a target of the Makefile, and the first one runs the command that it says."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert targets[:2] == ["compare", "test"]
    for target in [*targets, "bench"]:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    assert "eval/compare.py --policies $(POLICIES)" in makefile
    assert "POLICIES ?= static,dynamic,multibin" in makefile


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ")])
def test_commands(command: str, tmp_path: Path) -> None:
    """In an empty folder with the files that the README shows or names."""
    (tmp_path / "my.py").write_text(next(block for block in blocks("python") if "def mine" in block))
    rows = "\n".join(f"{i * 0.7},{100 + i},{50 + i % 300}" for i in range(400))
    (tmp_path / "my.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    (tmp_path / "my.json").write_text((ROOT / "data/profiles/synthetic.json").read_text())
    _, script, *arguments = shlex.split(command, comments=True)
    small = [] if "my.csv" in arguments else SMALL.get(script, [])
    run = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments, *small],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_python_blocks() -> None:
    """The other Python blocks run as they stand."""
    for block in blocks("python"):
        if block != TRAINING:
            exec(compile(block, "README.md", "exec"), {})


def test_ten_lines_train_an_agent() -> None:
    """They are what examples/train_ppo.py does; where learners are installed they run, with less training."""
    lines = [line for line in TRAINING.splitlines() if line]
    example = (ROOT / "examples" / "train_ppo.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 10 and set(lines) <= set(example)
    pytest.importorskip("stable_baselines3")
    code = TRAINING.replace("400_000", "8_192").replace("n_eval_episodes=64", "n_eval_episodes=16")
    assert code != TRAINING
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert re.fullmatch(r"episode return: -\d\.\d+ untrained, -\d\.\d+ trained\n", run.stdout)


def test_linked_files_exist() -> None:
    """Every relative link and picture leads somewhere."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
