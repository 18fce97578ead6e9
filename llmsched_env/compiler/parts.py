"""How the kernel is compiled: parts that melt into one function, and entries that are kept on disk.

Numba's cache looks at the file of the function it loads and not at what that function calls, so a changed part
could leave an old kernel in use.  Parts are therefore never cached, and an entry's cache key holds a fingerprint of
every source file that is compiled.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import config, njit
from numba.core.registry import CPUDispatcher

from llmsched_env.compiler.beside import start_beside
from llmsched_env.compiler.kinds import lent, wide
from llmsched_env.compiler.libraries import EntryCompiler, PartCompiler
from llmsched_env.files.numba_cache import ON_ENGINE, prepare_cache


class Part(CPUDispatcher):
    """A function of the kernel, of which one version serves all constants and all widths of whole numbers.

    Numba makes a version for every constant in a call, and for every width: 82 of the 262 functions of a run of the
    engine `batch`.
    """

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What Numba asks for at a call with arguments of these types."""
        taken = wide if self.targetoptions["forceinline"] else lent
        return super().get_call_template(tuple(taken(kind) for kind in args), {at: taken(kws[at]) for at in kws})


def _part_that(*, forceinline: bool) -> Callable[[Callable], Any]:
    """Decorator of a piece of the kernel: compiled with its caller, not callable from Python."""
    options = {
        "nopython": True,
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": True,
        "forceinline": forceinline,  # what is not said is inherited from the caller
    }

    def decorate(function: Callable) -> Any:
        if jit_is_off():
            return function
        return Part(py_func=function, targetoptions=dict(options), pipeline_class=PartCompiler)

    return decorate


part = _part_that(forceinline=True)
"""Decorator of a piece of the kernel: inlined where it is called, compiled with its caller, not callable from
Python (a third of the time to compile).  `plain` is for Python."""

apart = _part_that(forceinline=False)
"""The same for a piece that few runs need, or that takes long: compiled with its caller, called and not inlined."""


@cache
def plain(piece: Callable) -> Callable:
    """A part as Python calls it: neither it nor what it calls is compiled.  For the pieces of a few lines."""
    source: Any = getattr(piece, "py_func", piece)  # nothing is compiled under NUMBA_DISABLE_JIT
    used = {name: source.__globals__.get(name) for name in source.__code__.co_names}
    names = {name: plain(own) for name, own in used.items() if hasattr(own, "py_func")}
    return FunctionType(source.__code__, source.__globals__ | names, source.__name__)


_ENTRY: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True, "pipeline_class": EntryCompiler}


def entry_of(signature: Any) -> Callable[[Callable], Callable]:
    """Decorator of what Python calls: compiled for ``signature`` alone, kept on disk, and run without the lock."""

    def decorate(function: Callable) -> Any:
        with rare_collections():
            return njit(signature, **_ENTRY)(function)

    return decorate


@contextmanager
def rare_collections() -> Iterator[None]:
    """Inside, Python looks for garbage less often: at its usual pace that is a tenth of the time to compile."""
    before = gc.get_threshold()
    if 0 < before[0] < RARE[0]:
        gc.set_threshold(*RARE)
    try:
        yield
    finally:
        gc.set_threshold(*before)


RARE = (20_000, 50, 100)
"""Thresholds of the garbage collector while a kernel is compiled."""


def jit_is_off() -> bool:
    """Whether Numba was told to leave everything as plain Python (NUMBA_DISABLE_JIT=1, for debugging)."""
    return bool(getattr(config, "DISABLE_JIT"))  # noqa: B009  (set when Numba reads its environment)


LIBRARY = Path(__file__).resolve().parents[1]
prepare_cache(LIBRARY)
if not jit_is_off():
    ON_ENGINE.append(start_beside)

COMPILED = ("compiler", "core", "engines")
"""Folders of the library that hold what is compiled, and nothing else."""


def fingerprint() -> str:
    """SHA-256 of every source file that is compiled; part of the cache key of every entry."""
    digest = hashlib.sha256()
    for folder in COMPILED:
        for path in sorted((LIBRARY / folder).rglob("*.py")):
            digest.update(path.relative_to(LIBRARY).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
