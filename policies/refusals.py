"""Refusals, in one line, of a policy that cannot be compiled: what is wrong, and where."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from llmsched_env.core.layout import RECORD
from llmsched_env.options.suggest import did_you_mean

LONGEST = 300
"""Most characters of a reason."""

_SHORTER = (
    (r"Record\(.*?;(?:True|False)\)|\bRecord\([^\n]*\)", "record"),
    (r"Literal\[(\w+)\]\([^)]*\)", r"\1"),
    (r"nestedarray\(\w+, \(\d+,\)\)", "array"),
    (r", defined at .*| Raised from .*", ""),
)
"""Patterns of Numba's long texts, and what replaces them."""


class PolicyCodeError(Exception):
    """The code of a policy is refused; the text is the reason, without a full stop."""


def check_signature(name: str, function: Callable) -> None:
    """``ValueError`` unless ``function`` can be called with (record, params, memory, rng)."""
    signature = inspect.signature(function)
    if [p.kind for p in signature.parameters.values()] != [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 4:
        raise ValueError(
            f"{name}{signature} is not a policy: give def {name}(record, params, memory, rng), or "
            f"def {name}(observation, mask) for a Python function of the environment's observation."
        )


def compile_refusal(
    name: str, function: Callable, error: Exception, fields: Sequence[str] = RECORD.names or ()
) -> ValueError:
    """The error that refuses ``function``, which Numba could not compile; ``fields`` of its record."""
    return ValueError(f"policy {name} cannot be compiled: {_reason(error, fields)} ({_place(function, error)})")


def _missing_field(error: Exception) -> str | None:
    """The field that the record does not have, if that is the reason of ``error``; else None."""
    if isinstance(error, KeyError):  # record.word
        return str(error.args[0])
    found = re.search(r"Field '(\w+)' was not found in record", str(error))  # record["word"]
    return found[1] if found else None


def _reason(error: Exception, fields: Sequence[str]) -> str:
    """Numba's explanation without its traceback and without the layout of the record."""
    if isinstance(error, PolicyCodeError):
        return str(error)
    field = _missing_field(error)
    if field is not None:
        return f"the record has no field {field!r}.{did_you_mean(field, fields)}"
    if "IMPORT_NAME" in str(error):
        return "it cannot import inside the function"
    text = str(error)
    for long, short in _SHORTER:
        text = re.sub(long, short, text)
    returned = re.search(r"No conversion from (.+?) to UniTuple\(int64 x 2\)", text)
    if returned:
        return f"it must return (bin, size) on every path, and returns {returned[1]}"
    lines = [line.strip() for line in text.splitlines()]
    known = [line for line in lines if line and not line.startswith(("Failed in", "During:", "File "))]
    reason = known[0].rstrip(".") if known else type(error).__name__
    return reason if len(reason) <= LONGEST else f"{reason[: LONGEST - 3]}..."


def _place(function: Callable, error: Exception) -> str:
    """``FILE line N``: the first line of the function's own file that the error names, else where it begins."""
    file, first = function.__code__.co_filename, function.__code__.co_firstlineno
    short = file.replace("\\", "/").rsplit("/", 1)[-1]
    line = re.search(rf'{re.escape(short)}"?(?:, line | \()(\d+)', str(error))
    if line:
        return f"{short} line {line[1]}"
    field = _missing_field(error)
    if field is not None:
        lines, first = inspect.getsourcelines(function)
        first += next((i for i, text in enumerate(lines) if re.search(rf"\.{field}\b", text)), 0)
    return f"{short} line {first}"
