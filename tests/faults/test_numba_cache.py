"""Compiled code on disk: a damaged file is compiled again, a full or read-only disk does not end a run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
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


SOURCE = "import numba\n@numba.njit('int64(int64)', cache=True)\ndef f(x):\n    return {} * x\nprint(f(1))\n"


@pytest.mark.skipif(bool(SETTINGS.DISABLE_JIT), reason="nothing is compiled")
def test_a_kill_while_compiled_code_is_saved_leaves_no_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed source, and a kill at either write: what is found afterwards is what the source says."""
    numba_cache.forgive_damage()
    file = tmp_path / "changing.py"

    def value() -> int:
        space: dict[str, Any] = {"__name__": "changing"}
        exec(compile(file.read_text(), str(file), "exec"), space)
        return int(space["f"](1))

    for step, name in enumerate(("_save_data", "_save_index"), start=1):
        file.write_text(SOURCE.format(10 * step))
        os.utime(file, (10 * step, 10 * step))
        assert value() == 10 * step
        file.write_text(SOURCE.format(10 * step + 1))
        os.utime(file, (10 * step + 1, 10 * step + 1))
        with monkeypatch.context() as patch:

            def killed(*_: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(caching.IndexDataCacheFile, name, killed)
            with pytest.raises(KeyboardInterrupt):
                value()
        assert value() == value() == 10 * step + 1, name
    assert len(list((tmp_path / "__pycache__").glob("changing.*.nbc"))) == 1  # what nothing points to is removed


@pytest.mark.skipif(bool(SETTINGS.DISABLE_JIT), reason="nothing is compiled")
def test_processes_that_compile_at_once_agree(tmp_path: Path) -> None:
    """An empty folder and two sources of one name, each compiled by two processes: everybody reads its own code."""
    code = "import runpy, sys; from llmsched_env.compiler import parts; runpy.run_path(sys.argv[1])"
    words = []
    for number in (3, 4):
        (tmp_path / f"v{number}").mkdir()
        file = tmp_path / f"v{number}" / "same.py"
        file.write_text(SOURCE.format(number))
        words += 2 * [(number, [sys.executable, "-c", code, str(file)])]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for _ in range(2):  # compiled, then read
        started = [
            (number, subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)) for number, command in words
        ]
        for number, process in started:
            assert process.communicate(timeout=120)[0].strip() == str(number).encode() and process.returncode == 0


def test_the_first_compilation_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the log, and on a terminal only on standard error; small functions are not worth a word."""
    monkeypatch.setattr(numba_cache, "_SAID", set())
    caplog.set_level("INFO", logger="llmsched_env")
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        numba_cache._SAID.clear()
        for module in ("llmsched_env.core.load", "somebody.else", *(2 * ["llmsched_env.engines.batch.run"])):
            numba_cache.announce(module)
        assert capsys.readouterr().err.count("compiling the engine batch") == terminal
    assert len(caplog.records) == 2 and "warmup" in caplog.text
