"""Policies from a user's own file: ``path/my.py:mine``."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType

from llmsched.policies.parameters import declared
from llmsched.policies.registry import Policy, first_line
from llmsched_env.options.suggest import did_you_mean

_MODULES: dict[tuple[Path, int], ModuleType] = {}
"""Files that were run, by path and time of change: a file is run again only after it was changed."""


def load_policy(file: str, name: str) -> Policy:
    """Run ``file`` and return its policy ``name``, which it registers, or which is a plain function of it."""
    module = _module(file)
    found = {made.name: made for made in vars(module).values() if isinstance(made, Policy)}
    plain = {key: getattr(value, "py_func", value) for key, value in vars(module).items()}  # py_func: of Numba's njit
    own = {
        key: value
        for key, value in plain.items()
        if isinstance(value, Policy) or (inspect.isfunction(value) and value.__module__ == module.__name__)
    }
    chosen = found.get(name, own.get(name))
    if chosen is None:
        listed = [key for key in (*found, *own) if not key.startswith("_")]
        have = f"It has {', '.join(dict.fromkeys(listed))}." if listed else "It has no function."
        asked = (
            f"no policy {name!r}.{did_you_mean(name, listed)}"
            if name
            else "several names are possible: give FILE.py:NAME."
        )
        raise ValueError(f"{file}: {asked} {have}")
    if isinstance(chosen, Policy):
        return chosen
    return Policy(name, chosen, first_line(chosen), declared({}))


def _module(file: str) -> ModuleType:
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"{file}: there is no such file. Give FILE.py:FUNCTION.")
    key = path.resolve(), path.stat().st_mtime_ns
    if key not in _MODULES:
        _MODULES[key] = _run(file, key[0])
    return _MODULES[key]


def _run(file: str, path: Path) -> ModuleType:
    name = f"user_policy_{path.stem}_{len(_MODULES)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else 0)
        raise ValueError(f"{file} line {line}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    return module
