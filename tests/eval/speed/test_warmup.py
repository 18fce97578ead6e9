"""Compiling ahead: everything that is kept on disk is named, and a process that fails is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmsched.eval.speed import warmup
from llmsched_env.envs import first_use

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = {"llmsched_env": ROOT / "llmsched_env", "llmsched.eval": ROOT / "eval"}


def modules_with_entries() -> set[str]:
    """Every module that makes an entry, as it is imported or when it is asked for one."""
    found = set()
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            if re.search(r"^[a-z_, ]+ = (\w+\()?fingerprint\(\)", path.read_text("utf-8"), re.MULTILINE):
                found.add(".".join([package, *path.relative_to(folder).with_suffix("").parts]))
    return found


def test_all_that_is_kept_on_disk_is_compiled_ahead() -> None:
    """A new entry must be named, or the processes of the tests each compile it."""
    small = {function.__module__ for function, _ in first_use.SMALL} | {first_use.rows_loader.__module__}
    named = {module for modules in warmup.ENTRIES.values() for module in modules} | small
    found = modules_with_entries()
    assert len(found) >= 8 and found <= named


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--engine", "both", "--for", "all"], [module for modules in warmup.ENTRIES.values() for module in modules]),
        (["--for", "both"], ["llmsched_env.engines.batch.run", "llmsched_env.engines.batch.step"]),
        (["--for", "routing"], []),
    ],
)
def test_what_is_asked_for_is_compiled(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a use that an engine does not have is left out."""
    asked: list[str] = []
    monkeypatch.setattr(warmup, "compile_side_by_side", lambda modules, jobs: asked.extend(modules))
    assert warmup.compile_ahead([*words, "--jobs", "2"]) == 0
    assert asked == expected and "ready after" in capsys.readouterr().out


def test_processes_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Each module is imported, more than there are jobs, and said once."""
    names = ["core.constants", "core.layout", "grids"]
    warmup.compile_side_by_side([f"llmsched_env.{name}" for name in names], 2)
    printed = capsys.readouterr().out
    assert all(printed.count(f"{name}: ready after") == 1 for name in names)


def test_a_process_that_fails_is_said() -> None:
    """With the last line of what it said; the others end."""
    with pytest.raises(ValueError, match=r"missing was not compiled: ModuleNotFoundError: .*missing"):
        warmup.compile_side_by_side(["llmsched_env.core.missing", "llmsched_env.grids"], 2)
