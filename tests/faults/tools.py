"""Small runs, and what a refusal looks like."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from llmsched.eval import compare

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--policies", "static", "--requests", "40", "--seeds", "1", "--jobs", "1")
"""Options of a comparison that takes milliseconds."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def refused(self, *said: str) -> str:
        """Assert a refusal in one line that says all of ``said``; the line."""
        assert self.code == 2 and self.out == "" and self.err.count("\n") == 1, self
        assert "error: " in self.err and "Traceback" not in self.err, self
        for text in said:
            assert text in self.err, self
        return self.err


def run(*words: str | Path, main: Callable[[Sequence[str]], int] = compare.main) -> Ended:
    """Run a command in this process, SMALL unless ``words`` say otherwise."""
    given = [str(word) for word in words]
    usual = [] if main is not compare.main else small_besides(given)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([*usual, *given])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    return Ended(code, out.getvalue(), err.getvalue())


def small_besides(given: Sequence[str]) -> list[str]:
    """The options of SMALL that are not ``given``."""
    pairs = zip(SMALL[::2], SMALL[1::2], strict=True)
    size = {"--requests", "--duration"}
    return [
        word
        for name, value in pairs
        if name not in given and not (name == "--requests" and size & set(given))
        for word in (name, value)
    ]


def run_process(
    command: str, *, folder: Path | None = None, timeout_s: float = 60, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in a process of its own; ``$COMPARE`` stands for a small comparison."""
    small = " ".join([sys.executable, str(ROOT / "eval" / "compare.py"), *SMALL])
    variables: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT), "COMPARE": small, **environment}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=variables, capture_output=True, timeout=timeout_s, check=False
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every regular file below ``folder``, by its path in it."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }
