"""Columns of a trace that have to be understood: times, whose unit is known from the format or stated in the header,
never guessed; and SLO classes, by name or by number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.files.showing import shortened
from llmsched_env.requests import MAX_CLASSES

SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "usecs", "micros", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
"""Seconds in a unit, by the ways to write it."""

LARGEST_S = 1e11
"""A time in seconds that nobody means: the year 5138 since 1970, or since anything else 3,000 years."""

_BRACKETS = re.compile(r"(.*?)[(\[]\s*(.*?)\s*[)\]]\s*")
_SUFFIX = re.compile(rf"(.*)_({'|'.join(sorted(SECONDS, key=len, reverse=True))})", re.IGNORECASE)


@dataclass(frozen=True)
class Header:
    """A column: as written, its plain name (``requesttokens``), and the unit that it states (empty: none)."""

    label: str
    name: str
    unit: str

    def seconds(self, known: float | None) -> tuple[float, bool]:
        """(Seconds in the column's unit, whether the header states it); ``known``: the unit of the format, if any."""
        if self.unit:
            if self.unit.lower() not in SECONDS:
                raise ValueError(f"the column {self.label!r} has a unit that is not known: give s, ms, us or ns.")
            return SECONDS[self.unit.lower()], True
        if known is None:
            raise ValueError(
                f"the column {self.label!r} may be in seconds or in milliseconds: name it {self.label}_s or "
                f"{self.label}_ms."
            )
        return known, False


def header_of(column: str) -> Header:
    """``Timestamp (ms)``, ``arrival_s`` and ``Request tokens`` with their units."""
    label = column.strip()
    found = _BRACKETS.fullmatch(label) or _SUFFIX.fullmatch(label)
    base, unit = (found[1], found[2]) if found else (label, "")
    return Header(label, re.sub("[^a-z]", "", base.lower()), unit)


@dataclass(frozen=True)
class TraceClasses:
    """The class of every row: ``names[number[i]]`` is what row i says.  ``names`` are sorted, numbers by value."""

    names: tuple[str, ...]
    number: NDArray[np.int8]

    def rows(self, kept: NDArray) -> TraceClasses:
        """Those of some rows."""
        return TraceClasses(self.names, self.number[kept])

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the rows in each class."""
        counts = np.bincount(self.number, minlength=len(self.names))
        return tuple(float(count) / len(self.number) for count in counts)

    def among(self, names: Sequence[str]) -> NDArray[np.int8]:
        """Place among ``names`` of every row's class: the name itself, or a number from 0 on.

        ``ValueError`` for a class that is not there.
        """
        places = []
        for name in self.names:
            place = names.index(name) if name in names else int(name) if name.isdigit() else -1
            if not 0 <= place < len(names):
                raise ValueError(
                    f"slo_class {shortened(name)} of the trace is not among the classes {', '.join(names)}: give it "
                    f"targets with --slo-classes."
                )
            places.append(place)
        return np.array(places, np.int8)[self.number]


def classes_of(values: Sequence[Any], label: str) -> TraceClasses:
    """The classes of a column: texts, or whole numbers; ``ValueError`` names the first row that is neither."""
    found = [_name(value) for value in values]
    if None in found:
        row = found.index(None)
        raise ValueError(
            f"row {row + 1}: {label}={shortened(str(values[row]))} is not allowed: give the name or number of a class."
        )
    names = sorted(
        {str(name) for name in found}, key=lambda name: (0, int(name), "") if name.isdigit() else (1, 0, name)
    )
    if len(names) > MAX_CLASSES:
        raise ValueError(f"{label} has {len(names)} values: at most {MAX_CLASSES} classes are allowed.")
    place = {name: number for number, name in enumerate(names)}
    return TraceClasses(tuple(names), np.array([place[str(name)] for name in found], np.int8))


def _name(value: Any) -> str | None:
    """What a value is called; None where it says nothing, or nothing that can be shown."""
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | float | np.integer | np.floating):
        return str(int(value)) if value == value and value == int(value) and value >= 0 else None
    text = value.strip() if isinstance(value, str) else ""
    return text if text and text.isprintable() else None
