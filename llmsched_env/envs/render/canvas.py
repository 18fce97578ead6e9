"""A picture that can be drawn on: rectangles and smooth text on an array of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_env.envs.render.font import margin, text_mask, text_width

Colour = tuple[int, int, int]

BACKGROUND: Colour = (14, 20, 29)
PANEL: Colour = (23, 32, 44)
GRID: Colour = (41, 54, 71)
TEXT: Colour = (233, 238, 244)
MUTED: Colour = (146, 163, 182)
MISS: Colour = (255, 107, 77)

_RAMP = np.array([(66, 110, 222), (28, 158, 176), (120, 200, 108), (248, 226, 82)], dtype=np.float64)
"""From short outputs to long ones: lightness grows all the way, so that it can be read without seeing hues."""

REGULAR, BOLD = 1.9, 2.6
"""Width of a stroke of text in units of the font."""


def bin_colours(bins: int) -> NDArray[np.uint8]:
    """A colour for every bin, (bins, 3)."""
    if bins == 1:
        return _RAMP[1:2].astype(np.uint8)
    place = np.linspace(0.0, len(_RAMP) - 1.0, bins)
    channels = [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def faint(colours: NDArray[np.uint8], share: float, ground: Colour = PANEL) -> NDArray[np.uint8]:
    """``colours`` (n, 3) mixed into the ground: ``share`` of them is left."""
    return (share * colours + (1.0 - share) * np.array(ground)).astype(np.uint8)


class Canvas:
    """``pixels`` (height, width, 3) uint8, and the few strokes that the picture needs; x and y may be fractions."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.empty((height, width, 3), np.uint8)
        self.pixels[:] = BACKGROUND

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour | NDArray[np.uint8]) -> None:
        """Fill from (x0, y0) up to, not with, (x1, y1)."""
        self.pixels[round(max(y0, 0)) : round(max(y1, 0)), round(max(x0, 0)) : round(max(x1, 0))] = colour

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float,
        colour: Colour = TEXT,
        *,
        align: str = "left",
        weight: float = REGULAR,
    ) -> float:
        """Write ``words`` with capitals from ``y`` to ``y + size``; returns the width."""
        width = text_width(words, size)
        mask, edge = text_mask(words, size, weight), margin(size)
        left = round(x - {"left": 0.0, "centre": width / 2.0, "right": width}[align]) - edge
        top = round(y) - edge
        low_x, low_y = max(-left, 0), max(-top, 0)
        bottom, right = max(top + mask.shape[0], 0), max(left + mask.shape[1], 0)
        part = self.pixels[top + low_y : bottom, left + low_x : right]
        opacity = mask[low_y : low_y + part.shape[0], low_x : low_x + part.shape[1], None]
        part[:] = (part + opacity * (np.array(colour, np.float32) - part)).astype(np.uint8)
        return width
