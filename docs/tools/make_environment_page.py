"""Writes docs/reference/environment.md from the docstrings of the environments, which are their manual.

python docs/tools/make_environment_page.py          writes the page
python docs/tools/make_environment_page.py --check  says whether it is up to date (exit status 1: it is not)
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

PAGE = Path(__file__).parents[1] / "reference" / "environment.md"
IDS = ("LLMSched-v0", "LLMSchedContinuous-v0", "LLMSchedRouter-v0", "LLMSchedSmall-v0")
PICTURES = {"LLMSched-v0": "![Four servers under the scheduler multibin](../images/render.png)\n\n"}


def space_text(space: gym.Space) -> str:
    """A space in one line."""
    if isinstance(space, gym.spaces.Box):
        return f"Box({np.min(space.low):g}, {np.max(space.high):g}, {space.shape}, {space.dtype})"
    if isinstance(space, gym.spaces.MultiDiscrete):
        return f"MultiDiscrete({space.nvec.tolist()})"
    return str(space)


def section(env_id: str) -> str:
    """The page of one environment: what Gymnasium's own pages begin with, then the docstring."""
    env = gym.make(f"llmsched_env:{env_id}")
    cls = type(env.unwrapped)
    rows = (
        ("Action Space", space_text(env.action_space)),
        ("Observation Space", space_text(env.observation_space)),
        ("import", f'gymnasium.make("llmsched_env:{env_id}")'),
    )
    table = "| | |\n|---|---|\n" + "".join(f"| {name} | `{value}` |\n" for name, value in rows)
    manual = inspect.getdoc(cls) or ""
    return f"# {env_id}\n\n{PICTURES.get(env_id, '')}{table}\n{manual}\n"


def page() -> str:
    """The whole text."""
    note = "<!-- Made by docs/tools/make_environment_page.py from the docstrings: change those. -->\n\n"
    return note + "\n".join(section(env_id) for env_id in IDS)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    from made.page import write_or_check

    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    return write_or_check(PAGE, page(), bool(arguments))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    sys.exit(main(sys.argv[1:]))
