"""A disk that is really full: a small file system in memory, where this user may mount one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.tools import run
from tests.injection.test_writes import WORDS, results
from tests.injection.tools import TRIED

SIZES = (0, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64)
"""Kilobytes that are free when the command begins."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    words = [str(mount), "-t", "tmpfs", "-o", "size=256k", "llmsched", str(folder)]
    if mount is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system (mount -t tmpfs): run as root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """One line and exit code 2, and with room the same command gives what it would have given."""
    whole = tmp_path / "whole"
    assert run(*WORDS, "--out", whole / "out").code == 0
    refused = 0
    for free in SIZES:
        folder = disk / "run"
        folder.mkdir()
        filler = disk / "filler"
        filler.write_bytes(bytes((256 - 8 - free) * 1024))
        ended = run(*WORDS, "--out", folder / "out")
        assert ended.code in (0, 2) and "Traceback" not in ended.err, ended
        if ended.code == 2:
            refused += 1
            lines = [line for line in ended.err.splitlines() if "error: " in line]
            assert len(lines) == 1 and "cannot be written" in lines[0], ended
        filler.unlink()
        again = run(*WORDS, "--out", folder / "out")
        assert again.code == 0 and results(folder) == results(whole), again
        assert not list(folder.rglob(".llmsched-*"))
        shutil.rmtree(folder)
        TRIED["full disks"] += 1
    assert refused > 1
