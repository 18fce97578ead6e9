"""What every command of eval/ does around its work: exit codes, Ctrl-C, a reader that has gone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130
BROKEN_PIPE = 141


def guarded(program: str, work: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """``work`` with the arguments ``argv`` (default: the command line); its exit code, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return work(arguments)
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, SystemError) as error:  # compiled code turns the first into the second
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        print(f"{program}: interrupted before it was done", file=sys.stderr)
        return INTERRUPTED


def run_and_exit(main: Callable[[], int]) -> None:
    """Run ``main`` as the whole of this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main()
    sys.stdout.flush()
    if code == INTERRUPTED:
        os._exit(code)  # not waiting for the runs that go on in threads
    sys.exit(code)
