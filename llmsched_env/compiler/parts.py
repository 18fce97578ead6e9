"""How the kernel is compiled: parts that melt into one function, and entries that are kept on disk.

Numba's cache looks at the file of the function it loads and not at what that function calls, so a changed part
could leave an old kernel in use.  Parts are therefore never cached, and an entry's cache key holds a fingerprint of
every source file that is compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit

from llmsched_env.compiler.libraries import EntryCompiler, PartCompiler
from llmsched_env.files.numba_cache import prepare_cache

_UNWRAPPED: dict[str, Any] = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True, "pipeline_class": PartCompiler}

part = njit(forceinline=True, **_UNWRAPPED)
"""Decorator of a piece of the kernel: inlined where it is called, compiled with its caller, not callable from
Python (a third of the time to compile)."""

apart = njit(**_UNWRAPPED)
"""The same for a piece that few runs need: compiled with its caller, called and not inlined."""

exposed = njit(forceinline=True)
"""The same for a piece that Python calls too."""


def entry_of(signature: Any) -> Callable[[Callable], Callable]:
    """Decorator of what Python calls: compiled for ``signature`` alone, kept on disk, and run without the lock."""
    return njit(signature, cache=True, nogil=True, pipeline_class=EntryCompiler)


LIBRARY = Path(__file__).resolve().parents[1]
prepare_cache(LIBRARY)

COMPILED = ("compiler", "core", "engines")
"""Folders of the library that hold what is compiled, and nothing else."""


def jit_is_off() -> bool:
    """Whether Numba was told to leave everything as plain Python (NUMBA_DISABLE_JIT=1, for debugging)."""
    return bool(getattr(config, "DISABLE_JIT"))  # noqa: B009  (set when Numba reads its environment)


def fingerprint() -> str:
    """SHA-256 of every source file that is compiled; part of the cache key of every entry."""
    digest = hashlib.sha256()
    for folder in COMPILED:
        for path in sorted((LIBRARY / folder).rglob("*.py")):
            digest.update(path.relative_to(LIBRARY).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
