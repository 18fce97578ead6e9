"""How much memory a run takes, before it takes it: what cannot fit is refused instead of ending the process."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

GIB = 2**30
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files that hold the limit of a container."""


def check_memory(what: str, needed: float) -> None:
    """``ValueError`` where ``needed`` bytes are more than this machine, or this container, has; ``what`` needs them."""
    there = memory_bytes()
    if needed > there:
        wanted = shown(needed / GIB, 1)
        raise ValueError(f"{what} would take {wanted} GiB of memory, and {there / GIB:,.1f} GiB are there: give fewer.")


def shown(number: float, digits: int = 0) -> str:
    """A number with commas, or in short where it is beyond what anybody counts."""
    return f"{number:,.{digits}f}" if number < 1e15 else f"{number:.3g}"


@cache
def memory_bytes() -> int:
    """Bytes of memory of this machine, or of the container where it has a limit; a large number where nobody says."""
    found = [2**62]
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in LIMITS:
        with suppress(ValueError, OSError):
            found.append(int(Path(file).read_text(encoding="ascii")))
    return min(found)
