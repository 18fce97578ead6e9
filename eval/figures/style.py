"""The look of all figures, and how they are drawn and written.  matplotlib is loaded only when one is drawn."""

from __future__ import annotations

import importlib.util
import io
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsched_env.files.writing import make_folder, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HINT = "figures need matplotlib: pip install matplotlib (everything else was written)"

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
    "text.parse_math": False,  # names of users may hold dollar signs
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

    from llmsched.eval.figures.powers import label_powers_plainly

    with matplotlib.rc_context(STYLE):
        drawn = {name: draw() for name, draw in drawings.items()}
    found = {name: figure for name, figure in drawn.items() if figure is not None}
    for figure in found.values():
        label_powers_plainly(figure)
    return found


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

    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format="png", dpi=dpi, facecolor="white")
    make_folder(path.parent)
    write_bytes(path, content.getvalue())


SUBTITLE = "subtitle"
"""The gid of the line below the headline, which the report page leaves out: its scenario stands above the tables."""


def sheet(height: float, headline: str, title: str) -> Figure:
    """A figure of ``height`` inches; above it the bold ``headline`` and ``title`` in small letters, flush left."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    subtitle = textwrap.wrap(title, 150)
    head = 0.42 + 0.15 * len(subtitle)
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, height / (height + head)), w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(9.0, height + head), layout=layout)
    figure.text(0.012, 1 - 0.10 / (height + head), headline, fontsize=13, fontweight="bold", va="top")
    below = 1 - 0.35 / (height + head)
    figure.text(0.012, below, "\n".join(subtitle), fontsize=8, color=MUTED, va="top", gid=SUBTITLE)
    return figure


def colour_of(row: int) -> str:
    """The colour of the policy in this row."""
    return PALETTE[row % len(PALETTE)]


def dash_of(row: int) -> Any:
    """The dashes of the policy in this row."""
    return DASHES[(row // len(PALETTE)) % len(DASHES)]
