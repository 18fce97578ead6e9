"""How a user's policy is compiled: with every index checked, in the helpers that it calls too.

A wrong index would read or write the memory of the process, endless recursion would end it.  So the function and every
function that it can reach are copied, and the copies compiled with checks; a circle of calls is refused.  So are
numbers that no seed decides, and answers that would be cut to whole numbers in silence.
"""

from __future__ import annotations

import dis
import types as python
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import config as numba_config
from numba import njit, types
from numba.core.dispatcher import Dispatcher

from llmsched.policies.refusals import PolicyCodeError
from llmsched_env.compiler.parts import jit_is_off
from llmsched_env.core.view.decide import DECIDE_SIGNATURE
from llmsched_env.files.showing import visible

_KEPT = ("fastmath", "error_model", "nogil", "parallel")
"""Options of a helper that its checked copy keeps."""


def compile_checked(function: Callable, signature: Any = DECIDE_SIGNATURE) -> Callable:
    """``function(record, params, memory, rng)`` compiled for the kernel with ``signature``, all indices checked.

    `PolicyCodeError` or an error of Numba where it cannot be.
    """
    if jit_is_off():
        return function
    with _checked_indices():
        copy = _Copies().checked(function, ())
        compiled = njit(boundscheck=True)(copy)
        compiled.compile(signature.args)
        (found,) = compiled.nopython_signatures
        if found.return_type == signature.return_type:
            compiled.disable_compile()
            return compiled
        refuse_fractions(found.return_type)
        compiled = njit(signature, boundscheck=True)(copy)
        made = compiled.nopython_signatures[0].return_type
        if made != signature.return_type:  # Numba accepts a function that only raises
            raise TypeError(f"No conversion from {found.return_type} to {signature.return_type}")
        return compiled


def refuse_fractions(found: Any) -> None:
    """Refuse numbers that may have a fraction, a pair or one, which Numba would cut off in silence."""
    if isinstance(found, types.Float | types.Complex):
        raise PolicyCodeError(
            f"it must return a whole number, and returns {found}: write int(...) around a number that may have a "
            f"fraction"
        )
    parts: list[Any] = list(found) if isinstance(found, types.BaseTuple) else []  # type: ignore[call-overload]
    if len(parts) == 2 and any(isinstance(part, types.Float | types.Complex) for part in parts):
        raise PolicyCodeError(
            f"it must return whole numbers (bin, size), and returns {', '.join(str(part) for part in parts)}: write "
            f"int(...) around a number that may have a fraction"
        )


@contextmanager
def _checked_indices() -> Iterator[None]:
    """Everything that is compiled inside is checked: functions that are reached in ways that `_Copies` does not see."""
    settings: Any = numba_config
    before, settings.BOUNDSCHECK = settings.BOUNDSCHECK, 1
    try:
        yield
    finally:
        settings.BOUNDSCHECK = before


class _Copies:
    """Copies of a function and of the functions that it reaches."""

    def __init__(self) -> None:
        self._made: dict[Any, Callable] = {}

    def checked(self, function: Callable, callers: tuple[Callable, ...]) -> Callable:
        """A copy of ``function`` whose helpers are compiled with checks; ``callers``: those on the way to it."""
        if function in callers:
            circle = " -> ".join(one.__name__ for one in (*callers[callers.index(function) :], function))
            raise PolicyCodeError(f"{circle} is a circle of calls: write a loop instead")
        way = (*callers, function)
        for code in _codes(function.__code__):
            for value in reached_values(code, function):
                refuse_global_random(value)
        names = {name for code in _codes(function.__code__) for name in code.co_names}
        space = dict(function.__globals__)
        for name in names & space.keys():
            value = space[name]
            if isinstance(value, python.ModuleType) and value.__name__.partition(".")[0] not in _LIBRARIES:
                space[name] = self.module(value, names, function, way)
            else:
                space[name] = self.replaced(value, function, way)
        cells = [self._cell(cell, function, way) for cell in function.__closure__ or ()]
        copy = python.FunctionType(
            _with_visible_file(function.__code__), space, function.__name__, function.__defaults__, tuple(cells) or None
        )
        copy.__module__, copy.__qualname__, copy.__doc__ = function.__module__, function.__qualname__, function.__doc__
        return copy

    def replaced(self, value: Any, owner: Callable, way: tuple[Callable, ...]) -> Any:
        """A helper's checked copy, anything else itself."""
        if isinstance(value, Dispatcher):
            return self.helper(value, way)
        if isinstance(value, python.FunctionType) and _is_of_user(value, owner):
            return self.helper(value, way)
        return value

    def module(
        self, value: python.ModuleType, names: set[str], owner: Callable, way: tuple[Callable, ...]
    ) -> python.ModuleType:
        """A copy of a module of the user in which the functions with these ``names`` are checked."""
        copy = python.ModuleType(value.__name__)
        vars(copy).update(vars(value))
        for name in names & vars(value).keys():
            setattr(copy, name, self.replaced(vars(value)[name], owner, way))
        return copy

    def helper(self, value: Any, way: tuple[Callable, ...]) -> Callable:
        """The checked copy of a helper, decorated or not."""
        function = getattr(value, "py_func", value)
        if function not in self._made:
            options = {name: option for name, option in getattr(value, "targetoptions", {}).items() if name in _KEPT}
            self._made[function] = njit(boundscheck=True, **options)(self.checked(function, way))
        elif function in way:
            self.checked(function, way)  # refuses the circle
        return self._made[function]

    def _cell(self, cell: Any, owner: Callable, way: tuple[Callable, ...]) -> Any:
        try:
            return python.CellType(self.replaced(cell.cell_contents, owner, way))
        except ValueError:  # still empty
            return cell


def _is_of_user(value: Callable, owner: Callable) -> bool:
    """Whether a plain function lies beside ``owner``: in its module, or in one that the module was given."""
    return value.__module__ == owner.__module__ or value.__module__.partition(".")[0] not in _LIBRARIES


_LIBRARIES = {"numba", "numpy", "scipy", "math", "builtins", "llmsched", "llmsched_env", "pandas"}


def _codes(code: python.CodeType) -> Iterator[python.CodeType]:
    """``code`` and the codes of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, python.CodeType):
            yield from _codes(constant)


def reached_values(code: python.CodeType, function: Callable) -> Iterator[Any]:
    """What ``code`` names: globals, closed-over values, and attributes of them such as ``np.random.random``."""
    closed = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    chain: Any = None
    for step in dis.get_instructions(code):
        name = step.argval
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = function.__globals__.get(name)
        elif step.opname == "LOAD_DEREF" and name in closed:
            chain = _content(closed[name])
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(chain, python.ModuleType):
            chain = getattr(chain, str(name), None)
        elif step.opname not in ("CACHE", "EXTENDED_ARG", "PUSH_NULL", "PRECALL"):
            chain = None
        if chain is not None:
            yield chain


def _with_visible_file(code: python.CodeType) -> python.CodeType:
    """``code`` under a name of its file that the compiler can write down."""
    if visible(code.co_filename) == code.co_filename:
        return code
    inner = tuple(_with_visible_file(one) if isinstance(one, python.CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=visible(code.co_filename), co_consts=inner)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def refuse_global_random(value: Any) -> None:
    """Refuse the global generators of NumPy and of Python: two runs would differ, and no seed of ours reaches them."""
    if isinstance(value, python.ModuleType):
        is_global = value.__name__ in ("random", "numpy.random")
    else:  # random.random and numpy.random.random are methods of hidden generators
        is_global = type(getattr(value, "__self__", None)).__module__ in ("random", "numpy.random.mtrand")
    if is_global:
        raise PolicyCodeError("it uses a global generator, with which runs differ: draw from the argument rng")
