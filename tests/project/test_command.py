"""The command ``llmsched``: it has every command of eval/ and train/, and tells what is none."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmsched.command import COMMANDS, overview, split
from tests.project.pages import ROOT


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """``python -m llmsched`` with these words, far from the checkout."""
    command, environment = [sys.executable, "-m", "llmsched", *words], {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT.parent, env=environment, capture_output=True, text=True, check=False)


def commands() -> set[str]:
    """Modules of eval/ and train/ that are run as programs."""
    files = [file for folder in ("eval", "train") for file in (ROOT / folder).glob("*.py")]
    programs = [file for file in files if "run_and_exit(main)" in file.read_text(encoding="utf-8")]
    return {f"llmsched.{file.parent.name}.{file.stem}" for file in programs}


def test_every_program_is_a_command() -> None:
    """None is missing; calibrate, which lies in data/, is there too."""
    listed = {module for module, _, _ in COMMANDS.values()}
    assert len(commands()) > 20
    assert listed - {"llmsched.eval.calibration.command"} == commands()


def test_every_command_has_a_main() -> None:
    """Found in the source, because not everybody has what it needs."""
    for module, about, _ in COMMANDS.values():
        path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
        names = {
            name
            for node in ast.parse(Path(path).read_text(encoding="utf-8")).body
            for name in (
                [node.name]
                if isinstance(node, ast.FunctionDef)
                else [target.id for target in node.targets if isinstance(target, ast.Name)]
                if isinstance(node, ast.Assign)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert "main" in names, module
        assert about and "\n" not in about and len(about) < 80


def test_help_and_refusals() -> None:
    """Help on standard output, a refusal in one line with exit code 2; a command gets its arguments."""
    shown = run("--help")
    assert shown.returncode == 0 and shown.stdout == overview() + "\n" and not shown.stderr
    refused = run("compar")
    assert refused.returncode == 2 and not refused.stdout and refused.stderr.count("\n") == 1
    assert "Did you mean 'compare'?" in refused.stderr
    passed = run("compare", "--rate", "x")
    assert passed.returncode == 2 and passed.stderr.startswith("compare.py: error: ")


@pytest.mark.parametrize(
    ("words", "found"), [("train ppo --seed 1", ("train ppo", ["--seed", "1"])), ("capacity", ("capacity", []))]
)
def test_words_are_divided(words: str, found: tuple[str, list[str]]) -> None:
    """A command may have two words."""
    assert split(words.split()) == found
