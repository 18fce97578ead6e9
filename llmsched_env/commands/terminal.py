"""Standard output and standard error, whatever they are: closed, full, a pipe that nobody reads, ASCII only.

Results go to standard output by `show`, everything else to standard error by `say`.  Neither lets a text act on the
terminal, and standard error never makes a command fail.  What the code of a policy prints goes to standard error.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from llmsched_env.files.showing import visible


class OutputError(Exception):
    """Standard output cannot be written; the text is the reason."""


_RESULTS: list[TextIO] = []
"""Standard output of this process, once `prepare_streams` has kept it for results."""


class _Forgiving:
    """A stream that drops what cannot be written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_streams() -> None:
    """Make the streams of this process safe to write to; called once, at its start."""
    for number in (0, 1, 2):  # else the next file that is opened would take the place of a closed stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for the life of the process)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = _Forgiving(sys.stderr)
    if sys.stdout is not None:
        kept = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
        _RESULTS.append(kept)
        atexit.register(_close, kept)  # else Python may complain of it on standard error, at its end
        os.dup2(2, 1)  # what anything else writes there, from Python or from compiled code, is no result


def _close(stream: TextIO) -> None:
    """Close what was written to with `show`, which flushes."""
    with suppress(OSError, ValueError):
        stream.close()


def results() -> TextIO | None:
    """The stream for results; None where standard output is closed."""
    return _RESULTS[-1] if _RESULTS else sys.stdout


def show(text: str) -> None:
    """Print a result on standard output; `BrokenPipeError` where its reader has gone, else `OutputError`."""
    stream = results()
    if stream is None:
        raise OutputError("it is closed")
    try:
        print(visible(text), file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from None


def say(text: str) -> None:
    """Print a line on standard error."""
    with suppress(OSError, ValueError):
        print(visible(text), file=sys.stderr, flush=True)


def drop_output() -> None:
    """Let standard output take and forget what is still to be written to it."""
    stream = results()
    with suppress(OSError, ValueError):
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
