"""What every command of eval/ does around its work: exit codes, Ctrl-C, a closed pipe."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

BROKEN_PIPE = 141
"""Exit code after the reader of standard output has closed it."""


def run_guarded(program: str, work: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Call ``work`` with the arguments ``argv`` (default: the command line); return its exit code, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = work(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, SystemError) as error:  # compiled code turns the first into the second
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        print(f"{program}: interrupted before it was finished", file=sys.stderr)
        return INTERRUPTED
    return code


def run_and_exit(main: Callable[[], int]) -> None:
    """Run ``main`` as the whole of this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main()
    sys.stdout.flush()
    if code == INTERRUPTED:
        os._exit(code)  # without waiting for the runs that other threads still make
    sys.exit(code)
