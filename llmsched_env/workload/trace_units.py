"""Units of the times in a trace: known from the format, or stated in the header; never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
