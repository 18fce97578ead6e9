"""What may be given for an option: a number, one of several words, a text, or a form of its own.

A kind knows which values it accepts, how to read one from a command line, and how to say what is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from llmsched_env.options.suggest import did_you_mean

UNITS = {"s": "seconds", "ms": "milliseconds"}
"""Units as they are written out in a refusal; any other is written as it is."""


@dataclass(frozen=True)
class Number:
    """A number from ``low`` to ``high``.

    ``above``: ``low`` itself is not allowed.  ``whole``: only whole numbers (a float never is one, except for a
    number that may also be infinite).  ``unlimited``: ``inf`` is allowed and means no limit.  ``optional``: None too.
    """

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    whole: bool = False
    unlimited: bool = False
    optional: bool = False

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` may be given: never a bool, a NaN or a text."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
            return False
        return self._accepts_number(value)

    def _accepts_number(self, value: Any) -> bool:
        if math.isinf(value):
            return self.unlimited and value > 0
        if self.whole and not isinstance(value, Integral) and not (self.unlimited and value == int(value)):
            return False
        return bool(self.low <= value <= self.high and not (self.above and value == self.low))

    def allowed(self, unit: str = "") -> str:
        """What may be given, in words: ``a whole number from 1 to 128``."""
        text = f"a {'whole ' * self.whole}number {'above' if self.above else 'from'} {self.low:.10g}"
        if math.isfinite(self.high):
            text += f"{' and at most' if self.above else ' to'} {self.high:.10g}"
        unit = UNITS.get(unit, unit)
        return f"{text}{', or inf' * self.unlimited}{f' ({unit})' if unit else ''}"

    def read(self, text: str) -> Any:
        """The number written as ``text``; ``ValueError`` when it is not allowed."""
        infinite = self.unlimited and text.strip().lower() == "inf"
        value = float(text) if infinite or not self.whole else int(text)
        if not self.accepts(value):
            raise ValueError(text)
        return value

    def scaled(self, factor: float) -> Number:
        """The same range in another unit, ``factor`` of which make one of this."""
        return self if factor == 1 else replace(self, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    words: tuple[str, ...]

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` is one of the words."""
        return isinstance(value, str) and value in self.words

    def allowed(self, unit: str = "") -> str:
        """The words, as a list."""
        return f"one of {', '.join(self.words)}"

    def read(self, text: str) -> str:
        """``text``; ``ValueError`` when it is not one of the words."""
        if text not in self.words:
            raise ValueError(text)
        return text

    def nearest(self, value: Any) -> str:
        """``" Did you mean ...?"`` for the word that is most like ``value``, or an empty text."""
        return did_you_mean(str(value), self.words)


@dataclass(frozen=True)
class Text:
    """A text; the class that takes it checks what it says.  ``forms``: how it may be written, for a refusal."""

    forms: str = "a text"

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` is a text."""
        return isinstance(value, str)

    def allowed(self, unit: str = "") -> str:
        """How it may be written."""
        return self.forms

    def read(self, text: str) -> str:
        """``text`` itself."""
        return text


@dataclass(frozen=True)
class Form:
    """A form of its own, such as a list of targets; the reader of that form checks it.  ``forms`` describes it."""

    forms: str

    def accepts(self, value: Any) -> bool:
        """True: the reader of the form refuses."""
        return True

    def allowed(self, unit: str = "") -> str:
        """How it may be written."""
        return self.forms

    def read(self, text: str) -> str:
        """``text`` itself."""
        return text


Kind = Number | Choice | Text | Form
