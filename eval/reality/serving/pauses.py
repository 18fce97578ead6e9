"""Keep the pauses of Python's garbage collection out of a measurement."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_pauses() -> Iterator[None]:
    """Collect before, and not at all within.

    With a compiler loaded, a collection of all objects stops a client for half a second: requests are sent late, and
    tokens are seen late.  Objects without cycles are freed as ever.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
