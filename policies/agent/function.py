"""Python functions of an environment's observation as policies: ``agent.py:act``, with ``act(observation, mask)``.

The compiled simulator calls back into Python at every decision, so any learner can be entered as it is, and everything
else (runs, metrics, figures) stays what it is.  It is slow.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, objmode
from numpy.typing import NDArray

from llmsched.policies.agent.checkpoint import ACTIONS
from llmsched.policies.agent.fit import face_of
from llmsched.policies.agent.view import answer_of, write_image, write_mask, write_valid
from llmsched.policies.parameters import Value, declared
from llmsched.policies.registry import Floats, Policy, first_line
from llmsched_env.config import SimConfig
from llmsched_env.core.view.decide import DECIDE_SIGNATURE

PARAMETERS = ["observation", "mask"]
"""By these names of its parameters a function of the observation is told from a compiled policy."""

SETTING = "ACTION"
"""The constant of the file that names the action space, one of ACTIONS."""


class AgentError(Exception):
    """The user's function failed, or answered what is no action; the text says which, and where."""


def is_function_of_observation(function: Any) -> bool:
    """Whether ``function`` has the parameters (observation, mask)."""
    return inspect.isfunction(function) and list(inspect.signature(function).parameters) == PARAMETERS


@dataclass(frozen=True, eq=False)
class FunctionPolicy(Policy):
    """A policy that asks a Python function; ``action`` is the action space that it answers in."""

    action: str = field(default="multidiscrete", kw_only=True)

    @cached_property
    def decide(self) -> Callable:
        """The compiled function that asks."""
        _ASKED.append(self)
        return build_function(len(_ASKED) - 1)


_ASKED: list[FunctionPolicy] = []
"""Policies by their numbers, which their compiled functions know."""

_MADE: dict[Callable, FunctionPolicy] = {}
"""By their functions: each is compiled once."""


def function_policy(name: str, function: Callable, settings: Mapping[str, Any]) -> FunctionPolicy:
    """The policy of the Python ``function``; ``settings`` are the globals of its file."""
    if function in _MADE:
        return _MADE[function]
    action = settings.get(SETTING, ACTIONS[0])
    if action not in ACTIONS:
        raise ValueError(f"{name}: {SETTING} = {action!r} is not known: give one of {', '.join(ACTIONS)}.")

    def load(values: Mapping[str, Value], config: SimConfig) -> tuple[Floats, int]:
        """(ladder, bins, overdue, entries of the observation, then values of every part of an action)."""
        face = face_of(config, values, action)
        limits = face.limits
        head = [action == "ladder", limits.max_bins, limits.overdue, face.inputs, *face.parts]
        return np.array(head, np.float64), 0

    warnings.warn(
        f"{name} is a Python function, asked at every decision: many times slower than a compiled policy.",
        stacklevel=4,
    )
    needs: dict[str, Any] = {"details": True, "load": load, "repeatable": False, "action": action}
    return _MADE.setdefault(function, FunctionPolicy(name, function, first_line(function), declared({}), **needs))


def build_function(number: int) -> Callable:
    """The compiled decide function that asks the policy ``number``."""

    @njit(DECIDE_SIGNATURE)
    def asked(record, params, memory, rng):
        """The answer (choice, batch size) of the Python function."""
        ladder, max_bins = params[0] == 1.0, int(params[1])
        image = np.zeros(int(params[3]), np.float32)
        valid = np.empty(max_bins + 2 + int(params[2]), np.int8)
        mask = np.empty(int(params[4:].sum()), np.bool_)
        write_image(record, max_bins, image)
        write_valid(record, max_bins, valid)
        write_mask(valid, ladder, mask)
        sizes = params[4:]
        with objmode(first="int64", second="int64"):
            first, second = ask(number, image, mask, sizes)
        return answer_of(record, ladder, max_bins, first, second)

    return asked


def ask(
    number: int, observation: NDArray[np.float32], mask: NDArray[np.bool_], sizes: NDArray[np.float64]
) -> tuple[int, int]:
    """The action (first, second) that the Python function of the policy ``number`` answers; a ladder's second is 0.

    ``sizes``: number of values of every part.  `AgentError` where the function fails (SystemExit included: it would
    end a thread in silence), or its answer is no action.
    """
    known = _ASKED[number]
    function: Callable = known.function
    try:
        answer = function(observation, mask)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        about = " ".join(str(error).split())
        said = f"{type(error).__name__}{f': {about}' if about else ''}"
        raise AgentError(f"{said} ({_place(known.file, error)})") from None
    found = _whole(answer, len(sizes))
    if found is None or not all(0 <= part < size for part, size in zip(found, sizes, strict=True)):
        wanted = " x ".join(f"0 to {int(size) - 1}" for size in sizes)
        about = " ".join(repr(answer).split())[:80]
        raise AgentError(f"{known.name} answered {about}, where an action of {known.action!r} is {wanted}")
    return (found[0], 0) if len(found) == 1 else (found[0], found[1])


def _whole(answer: Any, parts: int) -> list[int] | None:
    """The whole numbers of an answer: a number, a list, a tuple, an array or a tensor; None for anything else."""
    plain = answer.tolist() if hasattr(answer, "tolist") else answer
    values = list(plain) if isinstance(plain, list | tuple) else [plain]
    if len(values) != parts or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return None
    if any(value != value or value in (float("inf"), float("-inf")) or value != int(value) for value in values):
        return None
    return [int(value) for value in values]


def _place(file: Path, error: BaseException) -> str:
    """``FILE line N``: the last line of the user's file on the way to the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file.name} line {lines[-1]}" if lines else file.name
