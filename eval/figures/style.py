"""The look of all figures, and how they are drawn and written.  matplotlib is loaded only when one is drawn."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HINT = "figures need matplotlib: pip install 'llmsched[plots]' (everything else was written)"

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#997700", "#3B9BD1", "#000000", "#777777")
"""Colours of policies by row: after Okabe and Ito, distinguishable with every kind of colour vision.

The light ones are darkened, so that text in them is legible.  A ninth policy has the first colour again, dashed.
"""

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
INK, MUTED, GRID, TARGET = "#222222", "#6b6b6b", "#e3e3e3", "#b2182b"
"""Colours of text, of secondary text, of grid lines, and of SLO targets."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_all(drawings: Mapping[str, Callable[[], Figure | None]]) -> dict[str, Figure]:
    """Draw the figures in the project's style, by name; those that return None are left out."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        found = {name: draw() for name, draw in drawings.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def write_all(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write every figure into ``folder`` as NAME.png."""
    for name, figure in figures.items():
        write_figure(figure, folder / f"{name}.png")


def draw_to(path: Path, draw: Callable[[], Figure], dpi: int = 150) -> None:
    """Draw one figure in the project's style and write it to ``path`` as PNG, its folder made where it is missing."""
    write_figure(draw_all({"figure": draw})["figure"], path, dpi)


def write_figure(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure to ``path`` as PNG, its folder made where it is missing."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=dpi, facecolor="white")


def sheet(height: float, headline: str, title: str) -> Figure:
    """A figure of ``height`` inches; above it the bold ``headline`` and ``title`` in small letters, flush left."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    subtitle = textwrap.wrap(title, 150)
    head = 0.42 + 0.15 * len(subtitle)
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, height / (height + head)), w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(9.0, height + head), layout=layout)
    figure.text(0.012, 1 - 0.10 / (height + head), headline, fontsize=13, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.35 / (height + head), "\n".join(subtitle), fontsize=8, color=MUTED, va="top")
    return figure


def colour_of(row: int) -> str:
    """The colour of the policy in this row."""
    return PALETTE[row % len(PALETTE)]


def dash_of(row: int) -> Any:
    """The dashes of the policy in this row."""
    return DASHES[(row // len(PALETTE)) % len(DASHES)]
