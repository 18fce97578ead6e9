"""What every command does around its work: exit codes, Ctrl-C, a closed pipe, a full disk or memory."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from llmsched_env.commands.interrupts import heed, install
from llmsched_env.commands.terminal import OutputError, drop_output, prepare_streams, say
from llmsched_env.files.showing import shortened, visible
from llmsched_env.files.writing import CannotWriteError

REFUSED = 2
"""Exit code after one line that says what is wrong."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

LONGEST, LONGEST_NAME = 2000, 200
"""Most characters of a line that says what is wrong, and of a name in it."""

BROKEN_PIPE = 141
"""Exit code after the reader of standard output has closed it."""


def run_guarded(program: str, work: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Call ``work`` with the arguments ``argv`` (default: the command line); return its exit code, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return work(arguments)
    except BrokenPipeError:  # the reader closed the pipe, as `| head` does
        drop_output()
        return BROKEN_PIPE
    except (KeyboardInterrupt, SystemError) as error:  # compiled code turns the first into the second
        if not was_interrupted(error):
            raise
        heed()
        say(f"{program}: interrupted before it was finished")
        return INTERRUPTED
    except (OutputError, CannotWriteError, OSError, MemoryError, RecursionError) as error:
        if isinstance(error, OutputError):
            drop_output()
        say(f"{program}: error: {shortened(visible(trouble(error)), LONGEST)}")
        return REFUSED


def was_interrupted(error: BaseException) -> bool:
    """Whether ``error`` is Ctrl-C, as it comes or as compiled code passes it on."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


def trouble(error: Exception) -> str:
    """What the system refused, in one line with a remedy."""
    if isinstance(error, CannotWriteError):
        return str(error)
    if isinstance(error, OutputError):
        return f"standard output cannot be written ({error}): the files of --out are kept; give a file or a terminal."
    if isinstance(error, MemoryError):
        about = f" ({' '.join(str(error).split())})" if str(error) else ""
        return f"the memory does not suffice{about}: simulate fewer requests, lower --jobs, or use a larger machine."
    if isinstance(error, RecursionError):
        return "something that was given is nested too deeply."
    file = getattr(error, "filename", None)
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    if not file and _folder_is_gone():
        return "the present folder was removed: change to another one."
    place = f"{shortened(repr(str(file)), LONGEST_NAME)}: " if file else ""
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return f"{place}{reason}: give a shorter name."
    return f"{place}{reason}: what was stored with --out is kept, and the same command continues from it."


def _folder_is_gone() -> bool:
    """Whether the present folder of this process exists no more."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def run_and_exit(main: Callable[[], int]) -> None:
    """Run ``main`` as the whole of this process."""
    prepare_streams()
    os.environ["MPLBACKEND"] = "agg"  # figures are written to files: no display, whatever the user has set
    install()
    try:
        code = main()
    except SystemExit as stop:  # --help, or a refusal
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else REFUSED
    if code == INTERRUPTED:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)  # without waiting for the runs that other threads still make
    sys.exit(code)
