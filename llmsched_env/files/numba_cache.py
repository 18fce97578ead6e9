"""Numba's files of compiled code: somewhere that can be written, and a damaged or full one costs time, not the run.

Whoever compiles for the first time is told so.  Processes that compile at once, and kills at any instant, leave no file
that holds other code than its index says.

The files are pickles that Numba itself wrote, so their folder must belong to this user alone (SECURITY.md).
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numba import config
from numba.core import caching
from numba.core.dispatcher import Dispatcher
from numba.misc.appdirs import AppDirs

try:
    import fcntl
except ImportError:  # no POSIX: processes that save at once are not kept apart
    fcntl = None  # type: ignore[assignment]

SETTINGS: Any = config

KERNELS = "llmsched_env.engines."
"""Modules whose functions take long to compile begin so."""

ON_ENGINE: list[Callable[[], None]] = []
"""What to do before an engine is compiled."""

_SAID: set[str] = set()
"""Engines whose compilation was announced in this process."""


def prepare_cache(library: Path) -> None:
    """Called once, before anything is compiled; ``library``: the folder of the package."""
    forgive_damage()
    usual = Path(AppDirs(appname="numba", appauthor=False).user_cache_dir)
    if SETTINGS.CACHE_DIR or can_be_made(library / "__pycache__") or can_be_made(usual):
        return
    folder = own_folder(Path(tempfile.gettempdir()))
    if folder is not None:
        SETTINGS.CACHE_DIR = str(folder)
    else:  # nothing can be written anywhere: compile in every process
        Dispatcher.enable_caching = lambda self: None  # type: ignore[method-assign]


def can_be_made(folder: Path) -> bool:
    """Whether ``folder`` can be written, or made and then written; nothing is touched."""
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def own_folder(parent: Path) -> Path | None:
    """A folder in ``parent`` that belongs to this user alone, the same in every process where that is possible."""
    folder = parent / f"llmsched-numba-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        there = folder.lstat()
        if stat.S_ISDIR(there.st_mode) and not there.st_mode & 0o077 and there.st_uid == getattr(os, "getuid", int)():
            return folder
    with suppress(OSError):
        made = Path(tempfile.mkdtemp(dir=parent))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return made
    return None


def forgive_damage() -> None:
    """Make Numba compile anew where a file of compiled code is damaged, and go on where none can be written."""
    cache: Any = caching.Cache
    if getattr(cache, "forgives_damage", False):
        return
    load, save = cache._load_overload, cache.save_overload

    def load_overload(self: Any, *arguments: Any) -> Any:
        """What is on disk; a damaged file counts as none and is thrown away."""
        found = None
        try:
            found = load(self, *arguments)
        except Exception:
            with suppress(Exception):
                self.flush()
        if found is None:
            announce(str(getattr(self._py_func, "__module__", "")))
        return found

    def save_overload(self: Any, *arguments: Any) -> None:
        with suppress(OSError):
            save(self, *arguments)

    cache._load_overload, cache.save_overload = load_overload, save_overload
    caching.IndexDataCacheFile.save = save_entry  # type: ignore[method-assign]
    cache.forgives_damage = True


def announce(module: str) -> None:
    """Say once for an engine that it is being compiled: to the log, and on a terminal on standard error."""
    if not module.startswith(KERNELS):
        return
    engine = module.removeprefix(KERNELS).partition(".")[0]
    if engine in _SAID:
        return
    _SAID.add(engine)
    for begin in ON_ENGINE:
        begin()
    text = f"compiling the engine {engine} for this machine, once: less than a minute (`llmsched warmup` does it ahead)"
    logging.getLogger("llmsched_env").info(text)
    with suppress(Exception):  # standard error may be closed, or anything that a program put there
        if sys.stderr.isatty():
            print(f"llmsched: {text}", file=sys.stderr, flush=True)


def save_entry(self: Any, key: Any, data: Any) -> None:
    """Save compiled code under a name that no file has, and then the index that points to it.

    Numba itself writes the index first and uses names again: a kill in between, or another process, could leave an
    index that points to other code, and nothing would notice.
    """
    folder = Path(self._cache_path)
    with _alone(folder):
        try:
            entries = dict(self._load_index())
        except Exception:  # damaged: begin anew
            entries = {}
        name = self._data_name(secrets.randbits(62))
        self._save_data(name, data)
        entries[key] = name
        self._save_index(entries)
        kept, start = set(entries.values()), self._index_name.removesuffix("nbi")
        for file in folder.iterdir():
            if file.name.startswith(start) and file.name.endswith(".nbc") and file.name not in kept:
                with suppress(OSError):
                    file.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside, no other process saves into ``folder``, where the system can tell."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
