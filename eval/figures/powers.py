"""Labels of logarithmic axes as plain text, because the mathematical markup of matplotlib is off in our figures."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, LogFormatterMathtext

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class PlainPowers(Formatter):
    """What a logarithmic formatter says, without its markup."""

    def __init__(self, given: LogFormatterMathtext) -> None:
        self._given = given

    def set_axis(self, axis: Any) -> None:
        """Take the axis, for the formatter too."""
        super().set_axis(axis)
        self._given.set_axis(axis)

    def set_locs(self, locs: Any) -> None:
        """Take the places of the labels, for the formatter too."""
        super().set_locs(locs)
        self._given.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label at ``x``."""
        return plain_power(self._given(x, pos))


def plain_power(text: str) -> str:
    r"""``$\mathdefault{10^{3}}$`` as ``10³``."""
    text = re.sub(r"\$|\\mathdefault", "", text).replace(r"\times", "x")
    text = re.sub(r"\^\{(.*?)\}", lambda power: power[1].translate(SUPERSCRIPTS), text)
    return re.sub(r"[{}]", "", text)


def label_powers_plainly(figure: Figure) -> None:
    """Give every logarithmic axis of ``figure`` labels without markup."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            major, minor = axis.get_major_formatter(), axis.get_minor_formatter()
            if isinstance(major, LogFormatterMathtext):
                axis.set_major_formatter(PlainPowers(major))
            if isinstance(minor, LogFormatterMathtext):
                axis.set_minor_formatter(PlainPowers(minor))
