"""Compiled code on disk: a damaged file is compiled again, a full or read-only disk does not end a run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import caching

from llmsched_env.files import numba_cache
from llmsched_env.files.numba_cache import can_be_made, own_folder, prepare_cache

SETTINGS: Any = numba.config

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "garbage": lambda content: bytes(range(256)) * 4,
    "another pickle": lambda content: pickle.dumps({"a": 1}),
    "another type": lambda content: pickle.dumps(caching.__file__) + pickle.dumps(3),
}


def twice(folder: Path, number: int) -> Any:
    """A small compiled function with a file of its own in ``folder``; the same one for the same number."""
    numba_cache.forgive_damage()
    file = folder / f"m{number}.py"
    if not file.exists():
        file.write_text("import numba\n@numba.njit('int64(int64)', cache=True)\ndef twice(x):\n    return 2 * x\n")
    space: dict[str, Any] = {"__name__": f"m{number}"}
    exec(compile(file.read_text(), str(file), "exec"), space)
    return space["twice"]


@pytest.mark.skipif(bool(SETTINGS.DISABLE_JIT), reason="nothing is compiled")
def test_a_damaged_file_is_compiled_again(tmp_path: Path) -> None:
    """Index and code, each damaged in every way: the same results, and the next process reads it again."""
    for number, (kind, damage) in enumerate(DAMAGE.items()):
        for suffix in ("nbi", "nbc"):
            assert twice(tmp_path, number)(4) == 8
            assert twice(tmp_path, number).stats.cache_hits, kind
            (file,) = (tmp_path / "__pycache__").glob(f"m{number}.*.{suffix}")
            file.write_bytes(damage(file.read_bytes()))
            again = twice(tmp_path, number)
            assert again(4) == 8 and not again.stats.cache_hits, (kind, suffix)


@pytest.mark.skipif(bool(SETTINGS.DISABLE_JIT), reason="nothing is compiled")
def test_a_full_disk_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function works; it is compiled again the next time."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    assert twice(tmp_path, 0)(4) == 8


def test_where_nothing_can_be_written_the_code_goes_to_a_folder_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only package and no home: today even the import failed."""
    (tmp_path / "file").write_text("")
    nowhere = tmp_path / "file" / "below"
    monkeypatch.setattr(SETTINGS, "CACHE_DIR", "")
    monkeypatch.setattr(numba_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere))
    prepare_cache(tmp_path)
    assert SETTINGS.CACHE_DIR == ""  # it can be written: nothing changes
    prepare_cache(nowhere)
    folder = Path(SETTINGS.CACHE_DIR)
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o077 == 0
    assert can_be_made(tmp_path / "a" / "b") and not can_be_made(nowhere) and not (tmp_path / "a").exists()


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    """Its files would be executed."""
    folder = tmp_path / f"llmsched-numba-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    found = own_folder(tmp_path)
    assert found is not None and found != folder
    folder.rmdir()
    folder.symlink_to(found)
    assert own_folder(tmp_path) not in (None, folder)
