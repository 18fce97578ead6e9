"""The picture of a scene: queues by bin, servers with their batches, waiting requests and SLO misses over time.

A batch is a block as wide as the time it takes.  Its height is divided among its members; what is still
generating tokens has the colour of its bin, what only waits for the longest member is faint: padding.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llmsched_env.config import SLO, SimConfig
from llmsched_env.envs.render.canvas import BOLD, GRID, MISS, MUTED, PANEL, TEXT, Canvas, bin_colours, faint
from llmsched_env.envs.render.font import text_width
from llmsched_env.envs.render.scene import WINDOW_S, Batch, Scene

PAD, HEADER, GUTTER, CAPTION = 26, 92, 36, 26
"""Pixels: around everything, of the title, of the servers' numbers, above a panel."""

MISS_SPAN_S = 2.0
"""Misses are counted over spans of this length."""

ANY, FAINT = (150, 166, 186), 0.27
"""Colour of the choice `any`, and how much of a colour is left in padding."""

STEPS = (10, 20, 30, 50, 100, 150, 200, 300, 500)
STRIDES = (1, 2, 5, 10, 20, 50)


def draw_scene(scene: Scene, width: int = 1280, height: int = 720, title: str = "LLMSched-v0") -> NDArray[np.uint8]:
    """The picture of ``scene``, (height, width, 3) uint8."""
    if width < 640 or height < 420:
        raise ValueError(f"a picture of {width} x {height} pixels is not allowed: give at least 640 x 420.")
    canvas = Canvas(width, height)
    colours = bin_colours(scene.config.queueing.num_queues)
    side = 250 if width >= 1100 else 190
    left, right = PAD + side + 28 + GUTTER, width - PAD
    room = height - HEADER - 3 * CAPTION - 36
    heights = [0.56 * room, 0.24 * room, 0.20 * room]
    tops = [HEADER + CAPTION + sum(heights[:i]) + i * CAPTION for i in range(3)]
    _header(canvas, scene, title)
    _queues(canvas, scene, colours, (PAD, tops[0], PAD + side, tops[1] + heights[1]))
    frames = [(left, top, right, top + tall) for top, tall in zip(tops, heights, strict=True)]
    for frame in frames:
        canvas.rectangle(*frame, PANEL)
        _times(canvas, scene.now, frame)
    _servers(canvas, scene, colours, frames[0])
    _waiting(canvas, scene, colours, frames[1])
    _misses(canvas, scene, frames[2])
    _legend(canvas, scene, colours, (PAD, frames[2][1], PAD + side, frames[2][3]))
    _axis(canvas, scene.now, frames[2])
    return canvas.pixels


Frame = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _header(canvas: Canvas, scene: Scene, title: str) -> None:
    config = scene.config
    canvas.text(PAD, 26, title, 21, weight=BOLD)
    servers, bins = len(config.servers), config.queueing.num_bins
    most = "batches" if scene.of_batches else "running sets"
    words = f"{_many(servers, 'server')}, {_many(bins, 'bin')}, {most} up to {config.max_batch}"
    canvas.text(PAD, 62, words, 9.5, MUTED)
    share = 100.0 * len(scene.misses) / max(scene.arrived, 1)
    x = float(canvas.pixels.shape[1] - PAD)
    most = "0" * len(str(scene.loaded))  # room for every number that can come, so that nothing jumps
    for label, value, room, more, colour in (
        ("SLO missed", f"{len(scene.misses)}", most, f"{share:.1f} %", MISS),
        ("done", f"{scene.done}", most, f"of {scene.loaded}", TEXT),
        ("in service", f"{scene.in_service}", most, "", TEXT),
        ("waiting", f"{int(scene.waiting.sum())}", most, "", TEXT),
        ("clock", f"{scene.now:.1f} s", "0000.0 s", "", TEXT),
    ):
        wide = text_width(room, 17) + (7 + text_width(max(more, "00.0 %", key=len), 9) if more else 0)
        x -= max(wide, text_width(label, 9))
        canvas.text(x, 27, label, 9, MUTED)
        end = x + canvas.text(x, 47, value, 17, colour, weight=BOLD)
        canvas.text(end + 7, 55, more, 9, MUTED)
        x -= 30


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _caption(canvas: Canvas, frame: Frame, words: str, more: str = "") -> None:
    canvas.text(frame[0], frame[1] - 19, words, 10, TEXT)
    canvas.text(frame[2], frame[1] - 19, more, 9, MUTED, align="right")


def bin_labels(config: SimConfig) -> list[str]:
    """Predicted output tokens of every bin in words."""
    edges, overdue = config.queueing.edges, ["overdue"] * config.queueing.has_overdue
    if not edges:
        return ["all", *overdue]
    middle = [f"{low}-{high - 1}" if high - 1 > low else f"{low}" for low, high in zip(edges, edges[1:], strict=False)]
    return [f"< {edges[0]}", *middle, f">= {edges[-1]}", *overdue]


def _scale(most: float) -> float:
    """A round number that ``most`` does not exceed."""
    return next((float(step) for step in STEPS if step >= most), 500.0 * math.ceil(most / 500.0))


def _queues(canvas: Canvas, scene: Scene, colours: NDArray[np.uint8], frame: Frame) -> None:
    left, top, right, bottom = frame
    _caption(canvas, frame, "Waiting by predicted output", "tokens" if right - left > 220 else "")
    bins = len(colours)
    step = min((bottom - top) / bins, 104.0)
    full = _scale(float(scene.waiting.max(initial=0)))
    labels = bin_labels(scene.config)
    for k in range(bins):
        y = top + k * step
        label = step >= 34
        bar_top = y + (20 if label else 1)
        bar = min(max(step - (29 if label else 3), 2.0), 44.0)
        if label:
            canvas.text(left, y + 4, labels[k], 9.5, MUTED)
            canvas.text(right, y + 3, str(scene.waiting[k]), 11, TEXT, align="right", weight=BOLD)
        canvas.rectangle(left, bar_top, right, bar_top + bar, PANEL)
        wide = (right - left) * scene.waiting[k] / full
        missed = (right - left) * scene.past_deadline[k] / full
        canvas.rectangle(left, bar_top, left + wide, bar_top + bar, colours[k])
        canvas.rectangle(left, bar_top + bar - max(bar / 4, 1), left + missed, bar_top + bar, MISS)


def _x_of(times: NDArray[np.floating] | float, now: float, frame: Frame) -> NDArray[np.floating]:
    return frame[2] + (np.asarray(times) - now) * (frame[2] - frame[0]) / WINDOW_S


def _marks(now: float) -> list[float]:
    """Multiples of 20 s in the window."""
    return [20.0 * k for k in range(math.ceil((now - WINDOW_S) / 20.0), math.floor(now / 20.0) + 1) if k >= 0]


def _times(canvas: Canvas, now: float, frame: Frame) -> None:
    for mark in _marks(now):
        x = float(_x_of(mark, now, frame))
        canvas.rectangle(x, frame[1], x + 1, frame[3], GRID)


def _axis(canvas: Canvas, now: float, frame: Frame) -> None:
    for mark in _marks(now):
        x = float(_x_of(mark, now, frame))
        if frame[0] <= x <= frame[2] - 70:
            canvas.text(x, frame[3] + 8, f"{mark:.0f} s", 9, MUTED, align="centre")
    canvas.text(frame[2], frame[3] + 8, "now", 9, TEXT, align="right")


def _servers(canvas: Canvas, scene: Scene, colours: NDArray[np.uint8], frame: Frame) -> None:
    left, top, right, bottom = frame
    servers = len(scene.config.servers)
    step = (bottom - top) / servers
    gap = 5.0 if step > 24 else 1.0 if step > 4 else 0.0
    busy = spent = 0.0
    for batch in scene.batches:
        y0, y1 = top + batch.server * step + gap, top + (batch.server + 1) * step
        _block(canvas, scene, batch, colours, (left, y0, right, y1 - gap))
        start, stop = max(batch.start, scene.now - WINDOW_S), batch.end
        busy += batch.size * (stop - start)
        spent += float(np.clip(np.minimum(batch.last_token, stop) - start, 0.0, None).sum())
    padding = f"{100.0 * (1.0 - spent / busy):.0f} % of batch slots are padding" if busy > 0.0 else ""
    if not scene.of_batches:
        padding = f"full height = {_many(scene.batches[0].size, 'member')}" if scene.batches else ""
    _caption(canvas, frame, f"Servers and their {'batches' if scene.of_batches else 'running sets'}", padding)
    stride = next(n for n in STRIDES if n * step >= 18.0)
    for server in range(servers):
        y = top + (server + 0.5) * step
        if server % stride == 0:
            colour = TEXT if server == scene.asked else MUTED
            canvas.text(left - 10, y - 5, f"{server}", 10, colour, align="right")
        if server == scene.asked:  # a pointer at now: this server asks for a batch
            for i in range(7):
                canvas.rectangle(right - 1 - i, y - i, right - i, y + i + 1, TEXT)


def _block(canvas: Canvas, scene: Scene, batch: Batch, colours: NDArray[np.uint8], frame: Frame) -> None:
    """One batch: at every instant its generating members by bin from below, padding above them."""
    left, top, right, bottom = frame
    ends = _x_of(np.array([batch.start, batch.end]), scene.now, frame)
    x0, x1 = max(round(left), round(float(ends[0]))), round(float(ends[1]))
    if not batch.running and x1 - x0 > 2:
        x1 -= 1
    y0, y1 = round(top), max(round(bottom), round(top) + 1)
    if x1 <= x0:
        return
    times = scene.now + (np.arange(x0, x1) + 0.5 - right) * WINDOW_S / (right - left)
    alive = np.zeros((len(colours), x1 - x0))
    for k in np.unique(batch.bins):
        mine = batch.bins == k
        joined, last = np.sort(batch.joined[mine]), np.sort(batch.last_token[mine])
        alive[k] = np.searchsorted(joined, times, side="right") - np.searchsorted(last, times, side="right")
    if len(batch.bins) == 0:  # all its members left it and run again elsewhere
        alive[0] = 0.0
    level = np.cumsum(alive, axis=0) * (y1 - y0) / batch.size
    height = (y1 - np.arange(y0, y1) - 0.5)[:, None]
    place = (height[None] >= level[:, None, :]).sum(axis=0)  # number of the bin, or len(colours): padding
    chosen = np.vstack([colours, ANY])[batch.queue]  # the last colour: `any`
    table = np.vstack([colours, faint(chosen[None], FAINT)])
    canvas.pixels[y0:y1, x0:x1] = table[place]
    if not scene.of_batches:
        return
    canvas.pixels[y0:y1, x0 : x0 + (1 if x1 - x0 > 3 else 0)] = TEXT
    if y1 - y0 >= 16 and x1 - x0 >= 12 + 8 * len(str(batch.size)):
        canvas.rectangle(x0 + 1, y0, x0 + 9 + 7.3 * len(str(batch.size)), y0 + 15, PANEL)
        canvas.text(x0 + 5, y0 + 3, str(batch.size), 9, TEXT)


def _waiting(canvas: Canvas, scene: Scene, colours: NDArray[np.uint8], frame: Frame) -> None:
    left, top, right, bottom = frame
    columns = np.arange(round(left), round(right))
    times = scene.now + (columns + 1.0 - right) * WINDOW_S / (right - left)
    level = np.cumsum(scene.waiting_at(times), axis=0)
    level[:, times < 0] = 0
    full = _scale(float(level[-1].max(initial=0)))
    y0, y1 = round(top), round(bottom)
    height = (y1 - np.arange(y0, y1) - 0.5)[:, None]
    place = (height[None] >= level[:, None, :] * (y1 - y0) / full).sum(axis=0)
    drawn = place < len(colours)
    canvas.pixels[y0:y1, columns[0] : columns[-1] + 1][drawn] = colours[place[drawn]]
    _caption(canvas, frame, "Waiting requests")
    canvas.text(left - 10, top, f"{full:.0f}", 9, MUTED, align="right")
    canvas.text(left - 10, bottom - 9, "0", 9, MUTED, align="right")


def _misses(canvas: Canvas, scene: Scene, frame: Frame) -> None:
    left, top, right, bottom = frame
    first = math.floor((scene.now - WINDOW_S) / MISS_SPAN_S)
    edges = MISS_SPAN_S * np.arange(first, math.floor(scene.now / MISS_SPAN_S) + 2)
    count = np.histogram(scene.misses, edges)[0]
    full = _scale(float(count.max(initial=0)))
    x = np.clip(_x_of(edges, scene.now, frame), left, right)
    for i in np.flatnonzero(count):
        if x[i + 1] - x[i] >= 1:
            canvas.rectangle(x[i], bottom - max((bottom - top) * count[i] / full, 2.0), x[i + 1] - 1, bottom, MISS)
    targets = "; ".join(slo_text(slo) for slo in scene.config.slos)
    _caption(canvas, frame, f"SLO misses per {MISS_SPAN_S:.0f} s", targets)
    canvas.text(left - 10, top, f"{full:.0f}", 9, MUTED, align="right")
    canvas.text(left - 10, bottom - 9, "0", 9, MUTED, align="right")


def slo_text(slo: SLO) -> str:
    """The targets of a class of requests in words."""
    parts = []
    for name, target in (("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s), ("E2E", slo.e2e_s)):
        if math.isfinite(target):
            parts.append(f"{name} <= {target:g} s" if target >= 1 else f"{name} <= {1000 * target:g} ms")
    return ", ".join(parts) or "no target"


def _legend(canvas: Canvas, scene: Scene, colours: NDArray[np.uint8], frame: Frame) -> None:
    left, top, right, bottom = frame
    batch = scene.of_batches
    sample = colours[len(colours) // 2]
    for i, (colour, words) in enumerate(
        (
            (sample, "generating, colour = bin" if batch else "running, colour = bin"),
            (faint(np.array([ANY]), FAINT)[0], "padding until the batch ends" if batch else "room to the fullest set"),
            (np.array(MISS, np.uint8), "past the deadline"),
        )
    ):
        y = top + 2 + 22 * i
        if y + 12 < bottom:
            canvas.rectangle(left, y, left + 16, y + 11, colour)
            canvas.text(left + 25, y + 1, words, 9, MUTED)
