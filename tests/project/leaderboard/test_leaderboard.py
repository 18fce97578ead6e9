"""docs/results/leaderboard.md is what its command makes of the committed result files, and takes over submissions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.project.pages import ROOT

TOOL = "docs/tools/make_leaderboard.py"


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The tool as it lies under ``root``."""
    return subprocess.run([sys.executable, str(root / TOOL), *arguments], capture_output=True, text=True)


def copied(folder: Path) -> Path:
    """A copy of the tool, the page and its files."""
    for name in (TOOL, "docs/results/leaderboard.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "docs/tools/made", folder / "docs/tools/made")
    shutil.copytree(ROOT / "docs/results/leaderboard", folder / "docs/results/leaderboard")
    return folder


def test_the_page_is_up_to_date() -> None:
    done = run(ROOT, "--check")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_a_submission_is_taken_over(tmp_path: Path) -> None:
    """Runs without a single miss come first; --check sees the change; runs that were not played are refused."""
    root = copied(tmp_path)
    files = root / "docs/results/leaderboard"
    rows = [
        line.split(",") for line in (files / "runs.csv").read_text().splitlines()[1:] if line.startswith("network,")
    ]
    lines = [f"mine,mine,{case},{load},{seed},1.0" for _, _, case, load, seed, _ in rows]
    head = "policy,parameters,case,load,seed,slo_attainment"
    (tmp_path / "results.csv").write_text("\n".join([head, *lines, ""]))
    entries = json.loads((files / "entries.json").read_text())
    (files / "entries.json").write_text(json.dumps({**entries, "mine": {"kind": "learned", "ms": 1, "cpu_hours": 2}}))
    refused = run(root)
    assert refused.returncode != 0 and "do not hold the same entries" in refused.stderr
    assert run(root, "--add", str(tmp_path), "mine").returncode == 0
    assert "| 1 | `mine` | learned | 0.00 ± 0.00 |" in (root / "docs/results/leaderboard.md").read_text()
    (tmp_path / "results.csv").write_text("\n".join([head, *lines[1:], ""]))
    refused = run(root, "--add", str(tmp_path), "mine")
    assert refused.returncode != 0 and "not played the same" in refused.stderr
