"""What a start takes: libraries that only some runs need are imported by those runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.project.pages import ROOT

LATE = ("pandas", "scipy.optimize", "scipy.stats", "matplotlib", "torch")

COMPARE = "from llmsched.eval.compare import main; main(['--requests', '50', '--seeds', '1', '--policies', 'static'])"
MAKE = "import gymnasium as gym, llmsched_env; gym.make('LLMSched-v0', requests=20).reset(seed=0)"


@pytest.mark.parametrize("code", [COMPARE, MAKE], ids=["compare", "gym.make"])
def test_a_start_imports_no_library_that_it_does_not_use(code: str) -> None:
    """They are half of the time of a short run."""
    code = f"import sys; {code}; print('late:', [name for name in {LATE!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == "late: []"
