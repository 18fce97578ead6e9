"""Kinds of parameters of a policy, ``NAME:parameter=value``: their ranges, and how a value is read and encoded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from llmsched_env.options.declaration import in_unit
from llmsched_env.options.kinds import Number as Range
from llmsched_env.options.suggest import did_you_mean
from llmsched_env.options.table import OPTIONS

Value = float | str | None
"""A parameter's value as it is typed; None is typed ``none``."""

AUTO = "auto"
"""The value that asks for the best of the parameter's grid on validation seeds."""


def show(value: Value) -> str:
    """``value`` as it is typed after the equals sign."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class Number:
    """A number from ``low`` to ``high``; with a default of None it may also be ``none``, which encodes as inf."""

    default: float | None
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    unit: str = ""  # "ms": typed in milliseconds, encoded in seconds
    auto: tuple[float, ...] = ()  # the grid of `auto`; empty: `auto` is not offered

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        kind = "whole number" if self.whole else "number"
        text = f"{kind} of {self.unit}" if self.unit else kind
        if math.isfinite(self.high):
            text += f" from {show(self.low)} to {show(self.high)}"
        elif math.isfinite(self.low):
            text += f" of at least {show(self.low)}"
        return f"a {text}{' or none' * (self.default is None)}{' or auto' * bool(self.auto)}"

    def read(self, text: str) -> Value:
        """The value typed as ``text``; ``ValueError`` when it is not a number."""
        return None if text == "none" else float(text)

    def check(self, value: Value) -> Value:
        """``value`` itself, or ``ValueError`` when it is not allowed."""
        if value is None and self.default is None:
            return None
        if isinstance(value, str) or value is None or not self.low <= value <= self.high:
            raise ValueError(f"{value!r} is out of range")
        if not math.isfinite(value) or (self.whole and value != int(value)):
            raise ValueError(f"{value!r} is not a whole or not a finite number")
        return int(value) if self.whole else float(value)

    def encode(self, value: Value) -> float:
        """The number that the compiled function reads."""
        if value is None:
            return math.inf
        return float(value) / 1000.0 if self.unit == "ms" else float(value)


@dataclass(frozen=True)
class Choice:
    """One of several words; it encodes as its place among them, 0, 1, ..."""

    words: tuple[str, ...]
    auto: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        """The first word."""
        return self.words[0]

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        return f"one of {', '.join(self.words)}{', auto' * bool(self.auto)}"

    def read(self, text: str) -> Value:
        """The value typed as ``text``."""
        return text

    def check(self, value: Value) -> Value:
        """``value`` itself, or ``ValueError`` when it is not one of the words."""
        if value not in self.words:
            raise ValueError(f"{value!r} is not known")
        return value

    def encode(self, value: Value) -> float:
        """The number that the compiled function reads."""
        return float(self.words.index(str(value)))


@dataclass(frozen=True)
class Text:
    """Any text, for example a path.  It encodes as NaN: such a policy reads its numbers itself (`Policy.load`)."""

    default: str | None
    auto: tuple[str, ...] = ()
    allowed: str = "a text"

    def read(self, text: str) -> Value:
        """The value typed as ``text``."""
        return text

    def check(self, value: Value) -> Value:
        """``value`` itself, or ``ValueError`` when it is not a text."""
        if not isinstance(value, str) and value is not self.default:
            raise ValueError(f"{value!r} is not a text")
        return value

    def encode(self, value: Value) -> float:
        """NaN: compiled functions read no text."""
        return math.nan


Parameter = Number | Choice | Text


def number(
    default: float | None,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    whole: bool = False,
    unit: str = "",
    auto: Sequence[float] = (),
) -> Number:
    """The parameter of a number from ``low`` to ``high``; see Number."""
    return Number(default, low, high, whole, unit, tuple(auto))


def setting(option: str, default: float | None = None, *, unit: str = "", auto: Sequence[float] = ()) -> Number:
    """A parameter that sets an option of the simulation: its bounds are declared with the option, by that name.

    ``unit`` is the one it is written in (``"ms"``), the option's own by default.
    """
    declared_one = OPTIONS[option]
    bounds = in_unit(declared_one.kind, declared_one.unit, unit)
    if not isinstance(bounds, Range) or bounds.above:
        raise ValueError(f"{option} is not a number with a smallest value: declare the parameter by itself.")
    return Number(default, bounds.low, bounds.high, bounds.whole, unit, tuple(auto))


def choice(*words: str, auto: Sequence[str] = ()) -> Choice:
    """The parameter of one of ``words``, by default the first; the compiled function reads its place, 0, 1, ..."""
    return Choice(words, tuple(auto))


def declared(params: Mapping[str, Parameter | float]) -> dict[str, Parameter]:
    """The parameters of a policy; a plain number becomes a Number without limits."""
    found: dict[str, Parameter] = {}
    for name, given in params.items():
        if not name.isidentifier():
            raise ValueError(f"parameter {name!r} is not allowed: give a name of letters, digits and underscores.")
        if given is None or isinstance(given, bool) or not isinstance(given, Number | Choice | Text | Real):
            raise ValueError(
                f"parameter {name}={given!r} is not allowed: give a number, or number(...) or choice(...)."
            )
        found[name] = given if isinstance(given, Number | Choice | Text) else Number(float(given))
    return found


def read_value(owner: str, name: str, parameter: Parameter, text: str) -> Value:
    """The checked value of ``name=text``; ``ValueError`` says what is allowed."""
    if text == AUTO:
        if not parameter.auto:
            raise ValueError(f"{owner}: {name}=auto is not offered: give {parameter.allowed}.")
        return AUTO
    try:
        return parameter.check(parameter.read(text))
    except ValueError:
        near = did_you_mean(text, parameter.words) if isinstance(parameter, Choice) else ""
        raise ValueError(f"{owner}: {name}={text} is not allowed: give {parameter.allowed}.{near}") from None


def check_value(owner: str, name: str, parameter: Parameter, value: Value) -> Value:
    """``value`` itself, checked; ``ValueError`` says what is allowed."""
    try:
        return parameter.check(value)
    except ValueError:
        raise ValueError(f"{owner}: {name}={show(value)} is not allowed: give {parameter.allowed}.") from None
