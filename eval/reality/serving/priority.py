"""A client that the machine's scheduler serves first, so that a measurement does not wait for a processor.

A vLLM on a few cores keeps all of them busy: its engine waits for its worker by asking over and over.  A client that
shares a core with it was seen to wait for up to 1.4 s although it was ready.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PRIORITY = 1
"""The lowest of the real-time ones: before every ordinary process."""


@contextmanager
def served_first() -> Iterator[bool]:
    """This thread before all ordinary ones; yields whether the system allows it (root, or CAP_SYS_NICE, on Linux)."""
    allowed = False
    if hasattr(os, "sched_setscheduler"):
        with suppress(OSError):
            policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
            allowed = True
    try:
        yield allowed
    finally:
        if allowed:
            os.sched_setscheduler(0, policy, parameters)


def may_go_first() -> bool:
    """Whether the system allows it."""
    with served_first() as allowed:
        return allowed
