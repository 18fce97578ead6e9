"""Files that are written whole or not at all, and only where a regular file is, or nothing.

What is there and is no regular file (a link, a device, a pipe, a folder) is neither replaced nor followed.  A file that
is replaced keeps its mode and its owner.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX: two writers of one file are not kept apart
    fcntl = None  # type: ignore[assignment]

KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
"""What a path can be besides a regular file, in words."""

NEVER_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags with which a file is opened: no link is followed, no pipe is waited for."""


class CannotWriteError(ValueError):
    """A file cannot be written; the text is one line for the user."""

    def __init__(self, path: Path | str, reason: str, option: str = "", remedy: str = "give a file that can") -> None:
        self.reason = reason
        super().__init__(f"{f'{option} ' if option else ''}{str(path)!r} cannot be written ({reason}): {remedy}.")


def kind_of(mode: int) -> str:
    """What a file of this mode is, in words; empty for a regular file."""
    return next((words for test, words in KINDS if test(mode)), "")


def check_file(path: Path, option: str = "") -> None:
    """Refuse with `CannotWriteError` a file that cannot be written; nothing is touched."""
    reason = _obstacle(path)
    if reason:
        raise CannotWriteError(path, reason, option)


def _obstacle(path: Path) -> str:
    """Why ``path`` cannot be written, in words; empty where it can."""
    try:
        _refuse_kind(path)
        if not path.parent.is_dir():
            return f"there is no folder {str(path.parent)!r}"
        if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
            return "no permission"
    except OSError as error:
        return reason_of(error)
    except CannotWriteError as error:
        return error.reason
    return ""


def check_folder(folder: Path, option: str = "") -> None:
    """Refuse with `CannotWriteError` a folder that can neither be written nor made; nothing is touched."""
    reason = ""
    try:
        nearest = folder
        while not _is_there(nearest) and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            reason = f"{str(nearest)!r} is no folder"
        elif not os.access(nearest, os.W_OK | os.X_OK):
            reason = "no permission"
    except OSError as error:
        reason = reason_of(error)
    if reason:
        raise CannotWriteError(folder, reason, option, "give a folder that can")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except NotADirectoryError:  # below a file
        return False
    return True


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it where they are missing; `CannotWriteError` where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(folder, reason_of(error), remedy="give a folder that can") from None


def write_text(path: Path, text: str) -> None:
    r"""Write a text file whole or not at all; what UTF-8 cannot hold is written as ``\xNN``."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a draft beside it, with a name that nobody can guess, takes its place.

    `CannotWriteError` where that fails; then the file is what it was before, and no draft is left.
    """
    draft = None
    try:
        there = _refuse_kind(path)
        name = path.parent / f".llmsched-{secrets.token_hex(8)}.part"
        mode = 0o666 if there is None else stat.S_IMODE(there.st_mode)
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NEVER_FOLLOW | getattr(os, "O_BINARY", 0), mode)
        draft = name
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if there is not None:
            _keep_owner(draft, there)
        _refuse_kind(path)
        os.replace(draft, path)
        draft = None
    except OSError as error:
        raise CannotWriteError(path, reason_of(error)) from None
    finally:
        if draft is not None:
            with suppress(OSError):
                os.unlink(draft)


def append_bytes(path: Path, content: bytes, *, sync: bool = False) -> int:
    """Append to a file all of ``content`` or nothing; return the place in the file where it ends.

    ``sync``: it is on the disk when this returns.

    Other processes may append to the same file.  A line that an earlier process did not finish is ended first.
    """
    try:
        with _opened_to_append(path) as handle:
            before = os.lseek(handle, 0, os.SEEK_END)
            torn = before > 0 and _last_byte(path, before) != b"\n"
            try:
                left = memoryview(b"\n" * torn + content)
                while left:
                    left = left[os.write(handle, left) :]
                if sync:
                    os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)  # a full disk takes a part
                raise
            return before + torn + len(content)
    except OSError as error:
        raise CannotWriteError(path, reason_of(error)) from None


@contextmanager
def _opened_to_append(path: Path) -> Iterator[int]:
    _refuse_kind(path)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NEVER_FOLLOW, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise CannotWriteError(path, f"it is {kind_of(os.fstat(handle).st_mode) or 'no regular file'}")
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _last_byte(path: Path, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1)


def _refuse_kind(path: Path) -> os.stat_result | None:
    """The status of the regular file at ``path``, None where nothing is; `CannotWriteError` for anything else."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return None
    except ValueError as error:  # a zero byte
        raise CannotWriteError(path, str(error)) from None
    if not stat.S_ISREG(there.st_mode):
        kind = kind_of(there.st_mode) or "no regular file"
        raise CannotWriteError(path, f"it is {kind}, which is not replaced")
    return there


def _keep_owner(draft: Path, there: os.stat_result) -> None:
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(draft, there.st_uid, there.st_gid)
    os.chmod(draft, stat.S_IMODE(there.st_mode))


def reason_of(error: OSError) -> str:
    """Why the system refused, in words."""
    return error.strerror or str(error)
