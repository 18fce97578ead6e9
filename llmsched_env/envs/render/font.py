"""A small stroke font: glyphs are a few curves each, drawn smoothly at any size, so that pictures need no font file.

Coordinates are pairs of base-36 digits, x to the right and y downwards: capitals stand between y = 0 and
y = 14 (``e``), small letters begin at 5, descenders end at 18 (``i``).  A stroke is ``l`` (straight lines), ``s`` (an
open curve) or ``c`` (a closed one) and its points; curves are quadratic B-splines of theirs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CAP = 14.0
"""Height of a capital in units."""

GAP, SPACE, BELOW = 4.0, 5.0, 5.0
"""Units between letters, of a space, and below the base line."""

GLYPHS = {  # character: width in units, strokes
    "0": (8, "c00 80 87 8e 0e 07"),
    "1": (8, "l13 50 5e"),
    "2": (8, "s04 00 80 87 0e,l0e 8e"),
    "3": (8, "s03 00 70 76 36,s36 86 8e 0e 0b"),
    "4": (8, "l6e 60 0a 8a"),
    "5": (8, "l70 10 16,s16 35 85 8e 0e 0b"),
    "6": (8, "c05 85 8e 0e,s0a 01 70"),
    "7": (8, "l00 80 3e"),
    "8": (8, "c10 70 76 16,c06 86 8e 0e"),
    "9": (8, "c00 80 89 09,s84 8d 1e"),
    "A": (8, "l0e 40 8e,l1a 7a"),
    "B": (8, "l00 0e,s00 40 70 76 46 06,s06 46 86 8e 4e 0e"),
    "C": (8, "s83 80 00 07 0e 8e 8b"),
    "D": (8, "l00 0e,s00 40 80 87 8e 4e 0e"),
    "E": (7, "l70 00 0e 7e,l07 57"),
    "F": (7, "l70 00 0e,l07 57"),
    "G": (8, "s83 80 00 07 0e 8e 8a 88,l88 58"),
    "H": (8, "l00 0e,l80 8e,l07 87"),
    "I": (0, "l00 0e"),
    "J": (6, "s60 69 6e 0e 0a"),
    "K": (8, "l00 0e,l70 08,l35 8e"),
    "L": (7, "l00 0e 7e"),
    "M": (10, "l0e 00 59 a0 ae"),
    "N": (8, "l0e 00 8e 80"),
    "O": (9, "c00 90 97 9e 0e 07"),
    "P": (8, "l00 0e,s00 40 80 88 48 08"),
    "Q": (9, "c00 90 97 9e 0e 07,l6a 9f"),
    "R": (8, "l00 0e,s00 40 80 88 48 08,l48 8e"),
    "S": (8, "s83 80 00 07 87 8e 0e 0b"),
    "T": (8, "l00 80,l40 4e"),
    "U": (8, "s00 07 0e 8e 87 80"),
    "V": (8, "l00 4e 80"),
    "W": (12, "l00 3e 62 9e c0"),
    "X": (8, "l00 8e,l80 0e"),
    "Y": (8, "l00 47 80,l47 4e"),
    "Z": (8, "l00 80 0e 8e"),
    "a": (7, "c05 75 7e 0e,l75 7e"),
    "b": (7, "l00 0e,c05 75 7e 0e"),
    "c": (6, "s67 65 05 0e 6e 6c"),
    "d": (7, "l70 7e,c05 75 7e 0e"),
    "e": (7, "l09 79,s79 75 05 0e 7e 6c"),
    "f": (5, "s60 20 25 2e,l05 55"),
    "g": (7, "c05 75 7e 0e,s75 7e 7i 0i 0g"),
    "h": (7, "l00 0e,s09 05 75 7a 7e"),
    "i": (0, "l05 0e,l01 01"),
    "j": (2, "s25 2e 2i 0i,l21 21"),
    "k": (6, "l00 0e,l65 0b,l29 7e"),
    "l": (1, "s00 0b 0e 2e"),
    "m": (10, "l05 0e,s09 05 55 5a 5e,s59 55 a5 aa ae"),
    "n": (7, "l05 0e,s09 05 75 7a 7e"),
    "o": (7, "c05 75 7e 0e"),
    "p": (7, "l05 0i,c05 75 7e 0e"),
    "q": (7, "l75 7i,c05 75 7e 0e"),
    "r": (4, "l05 0e,s0a 05 55"),
    "s": (6, "s67 65 05 09 6a 6e 0e 0c"),
    "t": (5, "s21 2a 2e 6e,l05 55"),
    "u": (7, "s05 0a 0e 7e 7a 75,l75 7e"),
    "v": (6, "l05 3e 65"),
    "w": (10, "l05 2e 57 8e a5"),
    "x": (6, "l05 6e,l65 0e"),
    "y": (6, "l05 3e,l65 1i"),
    "z": (6, "l05 65 0e 6e"),
    ".": (0, "l0e 0e"),
    ",": (1, "l1e 0g"),
    ":": (0, "l07 07,l0e 0e"),
    "/": (6, "l60 0g"),
    "%": (10, "l90 1e,c00 40 45 05,c69 a9 ae 6e"),
    "-": (5, "l09 59"),
    "+": (6, "l09 69,l36 3c"),
    "=": (6, "l07 67,l0b 6b"),
    "<": (6, "l65 0a 6f"),
    ">": (6, "l05 6a 0f"),
    "(": (3, "s30 05 0b 3g"),
    ")": (3, "s00 35 3b 0g"),
    "_": (7, "l0e 7e"),
    "'": (0, "l00 03"),
    "|": (0, "l00 0g"),
    "*": (6, "l34 3a,l05 69,l65 09"),
}


def text_width(text: str, size: float) -> float:
    """Width in pixels of ``text`` whose capitals are ``size`` pixels high."""
    units = sum(SPACE if c == " " else GLYPHS.get(c, GLYPHS["_"])[0] + GAP for c in text)
    return max(units - GAP, 0.0) * size / CAP


@lru_cache(maxsize=2048)
def text_mask(text: str, size: float, weight: float) -> NDArray[np.float32]:
    """Opacity (rows, columns) of a line of text; the first capital begins ``margin(size)`` pixels from left and top."""
    scale, edge = size / CAP, margin(size)
    width = int(np.ceil(text_width(text, size))) + 2 * edge + 1
    mask = np.zeros((int(np.ceil((CAP + BELOW) * scale)) + 2 * edge, width), np.float32)
    x = float(edge)
    for character in text:
        if character == " ":
            x += SPACE * scale
            continue
        units, strokes = GLYPHS.get(character, GLYPHS["_"])
        x = round(x * 4.0) / 4.0
        glyph = _glyph_mask(strokes, units, size, weight, x % 1.0)
        left = int(x) - edge
        part = mask[: glyph.shape[0], left : left + glyph.shape[1]]
        np.maximum(part, glyph[: part.shape[0], : part.shape[1]], out=part)
        x += (units + GAP) * scale
    return mask


def margin(size: float) -> int:
    """Pixels around a mask: half a stroke and its soft edge."""
    return 2 + int(size / CAP)


@lru_cache(maxsize=2048)
def _glyph_mask(strokes: str, units: int, size: float, weight: float, shift: float) -> NDArray[np.float32]:
    scale, edge = size / CAP, margin(size)
    rows = int(np.ceil((CAP + BELOW) * scale)) + 2 * edge
    columns = int(np.ceil(units * scale + shift)) + 2 * edge + 1
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    x, y = x - edge - shift, y - edge
    distance = np.full(x.shape, np.inf, np.float32)
    for stroke in strokes.split(","):
        points = _curve(stroke[0], stroke[1:]) * scale
        for (ax, ay), (bx, by) in zip(points, points[1:], strict=False):
            dx, dy = bx - ax, by - ay
            along = np.clip(((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-9), 0.0, 1.0)
            np.minimum(distance, np.hypot(x - ax - along * dx, y - ay - along * dy), out=distance)
    return np.clip(0.5 + weight * scale / 2.0 - distance, 0.0, 1.0)


def _curve(kind: str, text: str) -> NDArray[np.float64]:
    """Points (n, 2) of a stroke in units."""
    control = np.array([(int(pair[0], 36), int(pair[1], 36)) for pair in text.split()], dtype=np.float64)
    if kind == "l":
        return control
    if kind == "c":
        control = np.vstack([control, control[:2]])
    middle = (control[1:] + control[:-1]) / 2.0
    knots = middle if kind == "c" else np.vstack([control[:1], middle[1:-1], control[-1:]])
    t = np.linspace(0.0, 1.0, 6)[:, None]
    ends = zip(knots, control[1:], knots[1:], strict=False)
    pieces = [(1 - t) ** 2 * begin + 2 * t * (1 - t) * bend + t**2 * end for begin, bend, end in ends]
    return np.vstack(pieces)
