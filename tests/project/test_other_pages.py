"""Commands of the pages that report results are commands that exist, with options that exist; notebooks run.

Results take minutes to hours, so their commands are not run here: docs/tools/regenerate.py runs those of the tables.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmsched_env.commands.parser import OneLineParser
from tests.project.pages import NOT_RUN, ROOT, blocks, markdown
from tests.project.test_pages import PAGES as RUN

MANUAL = ROOT / "docs" / "reference" / "environment.md"
"""Its blocks are examples of docstrings, which tests/envs/test_env_manual.py runs."""

OTHERS = [page for page in markdown() if page not in RUN]
WITH_CODE = [page for page in OTHERS if blocks(page) and page != MANUAL]
LANGUAGES = {"python", "sh", "text"}
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


class ReadError(BaseException):
    """The options were read: nothing else of the command is wanted.  No Exception, which commands would catch."""


def read_options(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the options of ``python SCRIPT ...``; fails where the script or an option does not exist."""
    program, script, *arguments = shlex.split(command, comments=True)
    assert program == "python", f"{command}: start the block with '{NOT_RUN}: reason'"
    assert (ROOT / script).is_file(), command
    module = importlib.import_module(f"llmsched.{script.removesuffix('.py').replace('/', '.')}")
    read = OneLineParser.read

    def reads(parser: OneLineParser, argv: Any = None) -> None:
        read(parser, argv)
        raise ReadError

    monkeypatch.setattr(OneLineParser, "read", reads)
    with pytest.raises(ReadError):
        module.main(arguments)


def commands(text: str) -> list[str]:
    """The commands of a block, those over several lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block says what it is, and its commands can be read."""
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}: {block.text[:40]}"
        if block.language == "sh" and not block.not_run:
            for command in commands(block.text):
                if command.startswith("make "):
                    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.M), command
                    continue
                with monkeypatch.context() as patch:
                    read_options(command, patch)


def test_a_wrong_option_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And so is a script that is not there."""
    with pytest.raises(SystemExit):
        read_options("python eval/compare.py --polices static", monkeypatch)
    assert "--polices" in capsys.readouterr().err
    with pytest.raises(AssertionError):
        read_options("python eval/gone.py", monkeypatch)


@pytest.mark.parametrize("book", NOTEBOOKS, ids=lambda book: book.name)
def test_a_notebook_runs(book: Path, tmp_path: Path) -> None:
    """Its cells, as one program; what is kept in the repository has no outputs."""
    pytest.importorskip("matplotlib")
    cells = [cell for cell in json.loads(book.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 3 and not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    small = code.replace("requests=5000", "requests=200").replace("range(300)", "range(20)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", small], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_every_page_has_its_place_in_the_navigation() -> None:
    """mkdocs.yml names every page under docs/; `make docs` refuses one that does not exist."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in nav, page.name
