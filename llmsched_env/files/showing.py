"""Texts of others, such as names of files and policies, made safe to show: nothing in them acts on a terminal."""

from __future__ import annotations

import re

_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, marks that turn the direction of text, and bytes that are no character."""


def visible(text: str) -> str:
    r"""``text`` with every character that would act on a terminal, or that no file can hold, written as ``\xNN``."""
    return _ACTING.sub(_escaped, text)


def shortened(text: str, most: int = 60) -> str:
    """``text``, or its beginning and its length where it has more than ``most`` characters."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file name that is no UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
