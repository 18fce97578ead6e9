"""What there is to see of an environment, as a picture or as text.  Nothing is shown that has not happened yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmsched_env.core import layout
from llmsched_env.envs.render.canvas import bin_colours
from llmsched_env.envs.render.picture import bin_labels, draw_scene
from llmsched_env.envs.render.scene import WINDOW_S, Scene, scene_at

if TYPE_CHECKING:
    from llmsched_env.envs.lanes import Lanes

COLUMNS = 60
"""Characters of a bar, and of the last two minutes of a server."""

DIGITS = "0123456789abcdefghijklmnopqrstuv"
"""A character for every bin."""

CLEAR = "\x1b[2J\x1b[H"
"""Empties a terminal."""


def draw_rgb(
    lanes: Lanes,
    lane: int = 0,
    at_s: float | None = None,
    *,
    width: int = 1280,
    height: int = 720,
    title: str | None = None,
) -> NDArray[np.uint8]:
    """Picture (height, width, 3) uint8 of lane ``lane`` now, or at the earlier instant ``at_s``."""
    if title is None:
        title = lanes.title or lanes.engine.env_id
    return draw_scene(scene_at(lanes, lane, at_s), width, height, title)


def draw_ansi(lanes: Lanes, lane: int = 0, *, colour: bool = False) -> str:
    """A few lines of text: the clock, a bar per bin, a strip per server; ``colour`` with escape sequences."""
    scene = scene_at(lanes, lane)
    bins = scene.config.queueing.num_queues
    paint = _painter(bins) if colour else lambda text, k: text
    share = 100.0 * len(scene.misses) / max(scene.arrived, 1)
    lines = [
        f"t {scene.now:.1f} s   done {scene.done}/{scene.loaded}   in service {scene.in_service}"
        f"   waiting {scene.waiting.sum()}   SLO missed {len(scene.misses)} ({share:.1f} %)"
    ]
    labels = bin_labels(scene.config)
    wide = max(len(label) for label in labels)
    full = max(int(scene.waiting.max(initial=0)), COLUMNS)
    for k in range(bins):
        length = -(-int(scene.waiting[k]) * COLUMNS // full)
        bar = paint(DIGITS[k] * length, k) + " " * (COLUMNS - length)
        name = f"bin {k}" if k < scene.config.queueing.num_bins else "queue"
        lines.append(f"{name:<7s} {labels[k]:>{wide}} |{bar}| {scene.waiting[k]}")
    lines.append(f"servers, last {WINDOW_S:.0f} s: the bin of every batch, * any, . free")
    for server, strip in enumerate(_strips(scene)):
        painted = "".join(paint(c, DIGITS.index(c)) if c in DIGITS else c for c in strip)
        lines.append(f"{'>' if server == scene.asked else ' '}{server:<3d} {'':{wide + 3}} |{painted}|")
    return "\n".join(lines)


def _strips(scene: Scene) -> list[str]:
    """What every server did in each of the last COLUMNS spans of time."""
    times = scene.now - WINDOW_S * (np.arange(COLUMNS)[::-1] + 0.5) / COLUMNS
    strips = np.where(times < 0.0, " ", ".")[None].repeat(len(scene.config.servers), axis=0)
    for batch in scene.batches:
        inside = (times >= batch.start) & (times < batch.end)
        strips[batch.server, inside] = "*" if batch.queue == layout.NONE else DIGITS[batch.queue]
    return ["".join(row) for row in strips]


def _painter(bins: int):
    """(text, bin) -> the text on the ground of the bin's colour."""
    colours = bin_colours(bins)

    def paint(text: str, k: int) -> str:
        red, green, blue = colours[k]
        return f"\x1b[30;48;2;{red};{green};{blue}m{text}\x1b[0m" if text else ""

    return paint
