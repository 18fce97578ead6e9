"""Commands whose packages are not in the base install say so in one line."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {
    "ppo": "torch",
    "ppo_grouped": "torch",
    "search": "cma",
    "search_continuous": "cma",
    "small": "cma",
    "export": "torch",
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_missing_package_is_one_line(name: str) -> None:
    """Exit code 2, the package and how to install it."""
    if importlib.util.find_spec(NEEDS[name]) is not None:
        pytest.skip(f"{NEEDS[name]} is installed here")
    run = subprocess.run(
        [sys.executable, f"train/{name}.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2 and run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert f"{NEEDS[name]} is not installed: pip install" in run.stderr
