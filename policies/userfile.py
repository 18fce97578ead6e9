"""Policies from a user's own file: ``path/my.py:mine``.  Running the file is the one thing here that executes code."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import itertools
import re
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from llmsched.policies.agent.function import function_policy, is_function_of_observation
from llmsched.policies.parameters import declared
from llmsched.policies.registry import Policy, first_line
from llmsched_env.files.reading import CannotReadError, read_bytes
from llmsched_env.options.suggest import did_you_mean

MOST_BYTES = 2**24
"""Most bytes of a file of policies."""


@dataclass(frozen=True)
class _Run:
    """A file that was run: its module, and what it and the files that it imported held."""

    module: ModuleType
    contents: dict[Path, str]  # digests

    @property
    def is_current(self) -> bool:
        """Whether none of the files has changed."""
        return all(_digest_of(file) == digest for file, digest in self.contents.items())


_NUMBERS = itertools.count()
_RUNS: dict[Path, _Run] = {}
"""Files by path; one is run again only after it, or a file that it imports, has changed."""


def load_policy(file: str, name: str) -> Policy:
    """Run ``file`` and return its policy ``name``, which it registers, or which is a plain function of it."""
    chosen = load_function(file, name, Policy)
    if isinstance(chosen, Policy):
        return chosen
    if is_function_of_observation(chosen):
        return function_policy(name, chosen, chosen.__globals__)
    return Policy(name, chosen, first_line(chosen), declared({}))


def load_function(file: str, name: str, kind: Any) -> Any:
    """Run ``file`` and return what it calls ``name``: a ``kind`` (with a name) that it made, or a plain function.

    ``ValueError`` where it has none.
    """
    module = _module(file)
    found = {made.name: made for made in vars(module).values() if isinstance(made, kind)}
    plain = {key: getattr(value, "py_func", value) for key, value in vars(module).items()}  # py_func: of Numba's njit
    own = {
        key: value
        for key, value in plain.items()
        if isinstance(value, kind) or (inspect.isfunction(value) and value.__module__ == module.__name__)
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
    return chosen


def code_digest(file: Path) -> str:
    """Digest of a file of policies, and of the files that it imported, as they were when it was run."""
    run = _RUNS.get(file.resolve())
    parts = sorted(run.contents.values()) if run is not None else [_digest_of(file)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


def _digest_of(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return "gone"


def _module(file: str) -> ModuleType:
    path = Path(file).expanduser()
    try:
        read_bytes(path, MOST_BYTES)
    except CannotReadError as error:
        raise ValueError(f"{file}: {error}. Give FILE.py:FUNCTION.") from None
    key = path.resolve()
    if key not in _RUNS or not _RUNS[key].is_current:
        _RUNS[key] = _run(file, key)
    return _RUNS[key].module


def _run(file: str, path: Path) -> _Run:
    name = f"user_policy_{re.sub('[^A-Za-z0-9]', '_', path.stem)}_{next(_NUMBERS)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file}: it cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    known, contents = set(sys.modules), {path: _digest_of(path)}
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    sys.path.append(str(path.parent))  # last: a file beside it never hides an installed module
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no result
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else 0)
        raise ValueError(f"{file} line {line}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    finally:
        sys.path.remove(str(path.parent))
        contents |= _forget_siblings(path.parent, known | {name})
    return _Run(module, contents)


def _forget_siblings(folder: Path, known: set[str]) -> dict[Path, str]:
    """Digests of the new modules in ``folder``; the next file that imports one of these names reads it anew."""
    found = {}
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).resolve().is_relative_to(folder):
            found[Path(file).resolve()] = _digest_of(Path(file))
            del sys.modules[name]
    return found
