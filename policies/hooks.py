"""The hooks of a policy are called here: what fails in one, or comes out of it, is refused in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SimConfig

T = TypeVar("T")

MOST_MEMORY = 2**27
"""Most numbers that a policy may keep between decisions."""

IN_WORDS = {"dict": "a dictionary of fields", "SimConfig": "a configuration", "tuple": "(params, memory size)"}


def call_hook(policy: str, hook: str, kind: type[T], function: Callable[..., Any], *arguments: Any) -> T:
    """What ``function`` returns; ``ValueError`` where it fails, or returns something that is no ``kind``."""
    try:
        found = function(*arguments)
    except (ValueError, KeyboardInterrupt):
        raise
    except Exception as error:
        about = " ".join(str(error).split())
        raise ValueError(f"{policy}: its hook {hook} failed: {type(error).__name__}: {about}.") from None
    if not isinstance(found, kind):
        wanted = IN_WORDS.get(kind.__name__, kind.__name__)
        raise ValueError(f"{policy}: its hook {hook} returned {type(found).__name__}: return {wanted}.")
    return found


def replaced_fields(policy: str, part: T, fields: Mapping[str, Any]) -> T:
    """``part`` of a configuration with other ``fields``; ``ValueError`` names one that it does not have."""
    known = [field.name for field in dataclasses.fields(part)]  # type: ignore[arg-type]
    for name in fields:
        if name not in known:
            kind = type(part).__name__
            raise ValueError(f"{policy}: {kind} has no field {name!r}. It has {', '.join(known)}.")
    return dataclasses.replace(part, **fields)  # type: ignore[type-var]


KEPT = ("prefix_cache",)
"""Fields of config.Continuous that no policy sets: the metrics, tables and observations of a run depend on them."""


def check_kept(policy: str, given: SimConfig, found: SimConfig) -> None:
    """``ValueError`` where the hooks of ``policy`` made another configuration of ``given`` in a field of KEPT."""
    for name in KEPT:
        if getattr(found.continuous, name) != getattr(given.continuous, name):
            raise ValueError(f"{policy} sets {name}, which is an option of the scenario: give it there.")


def loaded_numbers(
    policy: str, function: Callable[..., Any], values: Mapping[str, Any], config: Any
) -> tuple[NDArray[np.float64], int]:
    """(params (P,), memory size) of the hook `load`, checked."""
    found = call_hook(policy, "load", tuple, function, values, config)
    try:
        params, size = found
        params = np.ascontiguousarray(params, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{policy}: its hook load returned no (params, memory size): {error}.") from None
    if params.ndim != 1:
        raise ValueError(f"{policy}: its hook load returned params of shape {params.shape}: return one row.")
    return params, checked_memory(policy, size)


def checked_memory(policy: str, size: Any) -> int:
    """``size`` itself; ``ValueError`` where a policy cannot keep so many numbers."""
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if not whole or not 0 <= size <= MOST_MEMORY:
        raise ValueError(f"{policy}: memory={size!r} is not allowed: give a whole number from 0 to {MOST_MEMORY}.")
    return int(size)
