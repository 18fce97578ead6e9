"""A policy that cannot be compiled is refused in one line: what is wrong, and where."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

from llmsched_env.layout import RECORD
from policies.parameters import nearest

LONGEST = 300
"""Most characters of a reason."""


def check_signature(name: str, function: Callable) -> None:
    """``ValueError`` unless ``function`` can be called with (record, params, memory, rng)."""
    if not inspect.isfunction(function):
        raise ValueError(f"{name} is not a function: give def {name}(record, params, memory, rng): return bin, size.")
    signature = inspect.signature(function)
    if [p.kind for p in signature.parameters.values()] != [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 4:
        raise ValueError(f"{name}{signature} is not a policy: give def {name}(record, params, memory, rng).")


def compile_refusal(name: str, function: Callable, error: Exception) -> ValueError:
    """The refusal of ``function``, which Numba could not compile."""
    return ValueError(f"policy {name} cannot be compiled: {_reason(error)} ({_place(function, str(error))})")


def _reason(error: Exception) -> str:
    """Numba's explanation without its traceback and without the layout of the record."""
    if isinstance(error, KeyError):  # a field of the record that does not exist
        field = str(error.args[0])
        return f"the record has no field {field!r}.{nearest(field, RECORD.names or ())}"
    text = re.sub(r"Record\(.*?;(True|False)\)|\bRecord\([^\n]*\)", "record", str(error))
    returned = re.search(r"No conversion from (.+?) to UniTuple\(int64 x 2\)", text)
    if returned:
        return f"it must return (bin, size) on every path, and returns {returned[1]}"
    lines = [line.strip() for line in text.splitlines()]
    known = [line for line in lines if line and not line.startswith(("Failed in", "During:", "File "))]
    reason = re.sub(r" Raised from .*", "", known[0]) if known else type(error).__name__
    return reason if len(reason) <= LONGEST else f"{reason[: LONGEST - 3]}..."


def _place(function: Callable, message: str) -> str:
    """``FILE line N``: the first line of the function's own file that the message names, else where it begins."""
    file = function.__code__.co_filename
    short = file.replace("\\", "/").rsplit("/", 1)[-1]
    line = re.search(rf'{re.escape(short)}"?(?:, line | \()(\d+)', message)
    return f"{short} line {line[1] if line else function.__code__.co_firstlineno}"
