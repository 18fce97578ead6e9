"""Packages that only some commands need: one line where one is missing."""

from __future__ import annotations

import importlib.util

from llmsched_env.commands.parser import refuse

PACKAGES = {"stable_baselines3": "stable-baselines3", "sb3_contrib": "sb3-contrib"}
"""What to install for a module whose package has another name."""


def need(program: str, *modules: str) -> None:
    """Exit with 2 and one line unless all ``modules`` are installed; nothing is imported."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        packages = " ".join(PACKAGES.get(module, module) for module in modules)
        refuse(program, f"{missing[0]} is not installed: pip install {packages}")
