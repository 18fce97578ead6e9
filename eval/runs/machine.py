"""Where the project is imported from, and the machine it runs on."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import llmsched_env

ROOT = Path(llmsched_env.__file__).resolve().parents[1]
"""The folder that the packages are imported from: of the checkout, or site-packages."""


def git_state() -> dict[str, Any] | None:
    """The commit of the checkout and whether files differ from it; None where there is no checkout or no git."""
    if not (ROOT / "pyproject.toml").is_file():  # an installed package, perhaps inside a repository of the user
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
