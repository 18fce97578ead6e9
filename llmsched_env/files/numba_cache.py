"""Numba's files of compiled code: somewhere that can be written, and a damaged or full one costs time, not the run.

They are pickles that Numba itself wrote, so their folder must belong to this user alone (SECURITY.md).
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import config
from numba.core import caching
from numba.core.dispatcher import Dispatcher
from numba.misc.appdirs import AppDirs

SETTINGS: Any = config


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
        try:
            return load(self, *arguments)
        except Exception:
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self: Any, *arguments: Any) -> None:
        with suppress(OSError):
            save(self, *arguments)

    cache._load_overload, cache.save_overload = load_overload, save_overload
    cache.forgives_damage = True
