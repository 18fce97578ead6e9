"""Every command and every Python block of README, the tutorials, the how-to pages and of two of the reference runs.

Commands of the other pages: test_other_pages.py.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.pages import NOT_RUN, ROOT, Block, blocks

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs/tutorial").glob("*.md")),
    *sorted((ROOT / "docs/howto").glob("*.md")),
    ROOT / "docs/reference/policies.md",
    ROOT / "docs/reference/python_api.md",
]
SMALL = {
    "eval/compare.py": ["--requests", "300", "--seeds", "2"],
    "eval/capacity.py": ["--requests", "300", "--seeds", "2", "--policies", "dynamic,multibin", "--scales", "1"],
    "eval/sla.py": ["--requests", "200", "--seeds", "2", "--memories", "20000,40000"],
    "eval/theory.py": ["--requests", "200", "--seeds", "2", "--bin-counts", "1,2", "--batches", "2", "--sigmas", "0"],
    "eval/levels.py": ["--requests", "1000", "--seeds", "2", "--policies", "dynamic,multibin"],
    "eval/sensitivity.py": ["--requests", "200", "--seeds", "2", "--factors", "rate", "--points", "4"],
    "eval/stress.py": shlex.split("--sizes 200 --at 200 --server-counts 1,2 --bin-counts 1,2 --loads 1"),
}
"""Added to commands that do not say how much they simulate."""
LEARNER = "stable_baselines3"
"""Blocks with this word need the extra [train]; test_readme.py runs the one that trains."""


def small(script: str, arguments: list[str]) -> list[str]:
    """Options that make a command short; a trace has a length of its own."""
    return [] if {"my.csv", "--requests"} & set(arguments) else SMALL.get(script, [])


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in ``folder`` with the checkout as the source of everything."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)


def run_block(block: Block, folder: Path) -> None:
    """Save the file that the block shows, or run it."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        done = run([sys.executable, "-c", block.text], folder)
        assert done.returncode == 0, f"{block.text}\n{done.stderr}"
    elif block.language == "sh":
        for command in block.commands:
            if command.startswith("make "):
                continue  # test_readme.py holds the Makefile to it
            program, script, *arguments = shlex.split(command, comments=True)
            assert program == "python", f"{command}: start the block with '{NOT_RUN}: reason'"
            done = run([sys.executable, str(ROOT / script), *arguments, *small(script, arguments)], folder)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            assert done.stdout.strip(), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path) -> None:
    """All blocks in order, in one folder with a trace and a profile of the reader's own."""
    rows = "\n".join(f"{i * 0.7},{100 + i % 400},{50 + 7 * i % 900}" for i in range(2000))
    (tmp_path / "my.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    (tmp_path / "my.json").write_text((ROOT / "data/profiles/synthetic.json").read_text())
    for block in blocks(page):
        if not block.not_run and LEARNER not in block.text:
            run_block(block, tmp_path)


def test_what_fails_is_seen(tmp_path: Path) -> None:
    """A command that is refused, a block that raises, and a command that the tests cannot run."""
    for block in (Block("sh", "python eval/compare.py --nonsense"), Block("python", "1 / 0"), Block("sh", "curl x")):
        with pytest.raises(AssertionError):
            run_block(block, tmp_path)


def test_every_block_says_what_it_is() -> None:
    """A block of the pages that are run is python, sh or text: one without a word would be left out in silence."""
    for page in PAGES:
        for block in blocks(page):
            assert block.language in {"python", "sh", "text"}, f"{page.name}: {block.text[:40]}"
            assert not re.search(r"(?i)^# not run (?!by the tests: \S)", block.text), block.text[:60]
