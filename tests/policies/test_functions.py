"""The functions of the policies: each stands alone, and importing them compiles nothing."""

from __future__ import annotations

import builtins
import subprocess
import sys
from types import ModuleType

import pytest

from llmsched.policies import get
from llmsched_env.core.layout import RECORD
from tests.policies.tools import CONTINUOUS, EVERY


@pytest.mark.parametrize("name", [*EVERY, *CONTINUOUS])
def test_functions_stand_alone(name: str) -> None:
    """The compiled function is kept on disk and compared with its own file only: it may use nothing of ours beside."""
    policy = get(name)
    used = vars(sys.modules[policy.function.__module__])
    for word in policy.function.__code__.co_names:
        if word in used:
            assert isinstance(used[word], ModuleType), f"{word} lies in another file"
            assert used[word].__name__ in ("math", "numpy")
        else:
            assert hasattr(builtins, word) or word in (RECORD.names or ()) or word in ("random", "isfinite")


def test_importing_compiles_nothing_and_stays_below() -> None:
    """`import policies` compiles no scheduler and imports neither experiments nor training."""
    code = (
        "import sys\nfrom llmsched import policies\n"
        "assert not any('decide' in vars(policies.get(name)) for name in policies.names())\n"
        "bad = {'llmsched.eval', 'llmsched.train', 'torch', 'gymnasium.envs.classic_control'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
