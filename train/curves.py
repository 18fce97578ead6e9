"""Draw the curves of training runs: ``python train/curves.py runs/first [runs/second ...] --out curves.png``.

The runs are those of train/ppo.py (TensorBoard events) or of train/search.py (curve.csv), one kind at a time.  Several
runs, which differ in their seed, become a line (their mean) and a band from the lowest to the highest.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    if not __package__:  # run as a script: import from the checkout, not from train/
        sys.path[0] = str(Path(__file__).resolve().parents[1])

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched_env.commands.parser import OneLineParser, refuse
from llmsched_env.commands.process import run_and_exit, run_guarded
from llmsched_env.files.reading import CannotReadError, check_regular, read_bytes
from llmsched_env.files.showing import shortened
from llmsched_env.files.writing import check_file, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROGRAM = "curves.py"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#997700")
INK, MUTED, GRID = "#222222", "#6b6b6b", "#e3e3e3"
POINTS = 40
"""Most points that are drawn; of a longer curve, the means over this number of parts."""

MOST_BYTES = 2**26
"""Most bytes of a curve.csv."""

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats]
"""x (N,), ascending, and y (N,)."""


@dataclass(frozen=True)
class Line:
    """A curve by its name in the run, times ``factor``.  A ``guide`` is dashed, in the colour of the line before it."""

    curve: str
    name: str = ""
    factor: float = 1.0
    guide: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes: title, unit of y, lines, and a level to mark."""

    title: str
    y: str
    lines: Sequence[Line]
    level: float | None = None


BANDS = (("0.5_to_0.9", "0.5 to 0.9"), ("0.9_to_1.2", "0.9 to 1.2"), ("1.2_to_1.6", "1.2 to 1.6"))
RATIO = "log ratio to the best heuristic's"

TRAINING = (
    Panel("Return of a training episode", "reward of an episode", [Line("episodes/return")]),
    Panel(
        "Misses in training, by load",
        "missed requests, %",
        [Line(f"episodes/misses_load_{key}", f"load {name}", 100.0) for key, name in BANDS],
    ),
    Panel("Misses in validation, all loads", RATIO, [Line("validation/log_ratio")], level=0.0),
    Panel(
        "Misses in validation, by load (dashed: best heuristic)",
        "missed requests, %",
        [
            line
            for load in ("1", "1.2", "1.4", "1.6")
            for line in (
                Line(f"validation/misses_load_{load}", f"load {load}", 100.0),
                Line(f"validation/best_heuristic_load_{load}", "", 100.0, guide=True),
            )
        ],
    ),
    Panel("Entropy of the policy", "nats", [Line("train/entropy_loss", "", -1.0)]),
    Panel(
        "Decisions",
        "share of the decisions, %",
        [
            Line("decisions/wait", "wait", 100.0),
            Line("decisions/any", "any bin", 100.0),
            Line("decisions/target", "size: target", 100.0),
            Line("decisions/size_to_8", "size: up to 8", 100.0),
            Line("decisions/size_above", "size: more", 100.0),
        ],
    ),
)
SEARCH = (
    Panel("Misses over the runs of a generation", RATIO, [Line("mean", "mean"), Line("best", "best")], level=0.0),
    Panel("Step size of the search", "sigma", [Line("sigma")]),
)


@dataclass(frozen=True)
class Kind:
    """How runs of one program are drawn: the name of x, the steps in one of its units, and the panels."""

    x: str
    unit: float
    panels: Sequence[Panel]


KINDS = {"ppo": Kind("decisions, thousands", 1e3, TRAINING), "search": Kind("generation", 1.0, SEARCH)}


def read_run(folder: Path) -> tuple[str, dict[str, Curve]]:
    """The kind of the run in ``folder`` and its curves by name; ``ValueError`` in one line."""
    if (folder / "curve.csv").is_file():
        return "search", read_search(folder / "curve.csv")
    events = sorted(folder.glob("events.out.tfevents.*"))
    if not events:
        raise ValueError(f"{folder} holds no run: give a folder that was the --out of train/ppo.py or train/search.py.")
    return "ppo", read_events(events)


def read_search(path: Path) -> dict[str, Curve]:
    """The columns of a curve.csv by name, over the generation."""
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        names, table = rows[0], np.array([[float(value) for value in row] for row in rows[1:]], np.float64)
        if not len(table) or "generation" not in names or len(set(names)) < len(names) or table.shape[1] != len(names):
            raise ValueError("its rows are not a number for each column")
        x = table[:, names.index("generation")]
        if not np.isfinite(x).all() or (np.diff(x) <= 0).any():
            raise ValueError("its generations do not ascend")
    except (CannotReadError, IndexError, ValueError, csv.Error) as error:
        reason = "it is empty" if isinstance(error, IndexError) else " ".join(str(error).split())
        raise ValueError(f"{path}: no curve of train/search.py ({reason}): give the folder of a whole run.") from None
    return {name: (x, table[:, place]) for place, name in enumerate(names) if name != "generation"}


def read_events(files: Sequence[Path]) -> dict[str, Curve]:
    """The scalars of TensorBoard event files, oldest first; at equal steps the later file counts (a resumed run)."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise ValueError("reading its events needs TensorBoard: pip install tensorboard") from None
    found: dict[str, dict[int, float]] = {}
    for file in files:
        try:
            check_regular(file)
            events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
            for name in events.Tags()["scalars"]:
                found.setdefault(name, {}).update({event.step: event.value for event in events.Scalars(name)})
        except Exception as error:  # whatever a damaged record makes TensorBoard raise
            reason = shortened(" ".join(str(error).split()), 200)
            raise ValueError(f"{file}: no events of TensorBoard ({type(error).__name__}: {reason}).") from None
    if not found:
        raise ValueError(f"{files[0].parent}: its events hold no curve: give the folder of a whole run.")
    curves = {}
    for name, values in found.items():
        steps = sorted(values)
        curves[name] = np.array(steps, np.float64), np.array([values[step] for step in steps])
    return curves


def thin(curve: Curve) -> Curve:
    """Means of x and y over POINTS equal parts, or the curve itself where it is short; without undefined values."""
    x, y = (values[np.isfinite(curve[1])] for values in curve)
    if len(x) <= POINTS:
        return x, y
    cuts = np.linspace(0, len(x), POINTS + 1).astype(int)[:-1]
    counts = np.diff([*cuts, len(x)])
    return np.add.reduceat(x, cuts) / counts, np.add.reduceat(y, cuts) / counts


def combine(curves: Sequence[Curve]) -> tuple[Floats, Floats, Floats, Floats]:
    """(x, mean, lowest, highest), (N,) each, of several runs where all of them have values."""
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    x = np.unique(np.concatenate([x for x, _ in curves]))
    x = x[(x >= first) & (x <= last)]
    y = np.array([np.interp(x, *curve) for curve in curves])
    return x, y.mean(axis=0), y.min(axis=0), y.max(axis=0)


def draw_panel(axes: Axes, about: Panel, kind: Kind, runs: Sequence[Mapping[str, Curve]]) -> None:
    """Draw the lines of a panel that every run has."""
    place = -1
    for line in about.lines:
        place += not line.guide
        curves = [thin(run[line.curve]) for run in runs if line.curve in run]
        if len(curves) < len(runs) or not all(len(x) for x, _ in curves):
            continue
        x, mean, low, high = combine(curves)
        colour = COLOURS[place % len(COLOURS)]
        look: dict[str, Any] = {"linewidth": 1.1, "linestyle": (0, (4, 2))} if line.guide else {"linewidth": 1.8}
        axes.plot(x / kind.unit, line.factor * mean, color=colour, label=line.name or None, **look)
        if len(runs) > 1 and not line.guide:
            axes.fill_between(
                x / kind.unit, line.factor * low, line.factor * high, color=colour, alpha=0.18, linewidth=0
            )
    if about.level is not None:
        axes.axhline(about.level, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=0)
    axes.set_title(about.title, fontsize=10, loc="left", color=INK)
    axes.set_ylabel(about.y, fontsize=9)
    if axes.get_legend_handles_labels()[0]:
        low_end, high_end = axes.get_ylim()
        axes.set_ylim(low_end, high_end + 0.25 * (high_end - low_end))  # the legend stands above the lines
        axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=min(3, len(about.lines)))


def draw_runs(kind: Kind, runs: Sequence[Mapping[str, Curve]], heading: str, file: Path) -> None:
    """Write the panels of ``kind`` as a PNG, whole or not at all."""
    from matplotlib.figure import Figure

    rows = -(-len(kind.panels) // 2)
    figure = Figure(figsize=(9.0, 0.4 + 2.7 * rows), layout="constrained")
    figure.suptitle(heading, x=0.012, ha="left", fontsize=9, color=MUTED)
    grid = figure.subplots(rows, 2, squeeze=False, sharex=True)
    for axes, about in zip(grid.ravel(), kind.panels, strict=False):
        draw_panel(axes, about, kind, runs)
        axes.grid(color=GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, color=MUTED)
    for axes in grid[-1]:
        axes.set_xlabel(kind.x, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, facecolor="white")
    write_bytes(file, content.getvalue())


def main(argv: Sequence[str] | None = None) -> int:
    """Read and draw; returns the exit code."""
    return run_guarded(PROGRAM, run, argv)


def run(argv: Sequence[str]) -> int:
    """Read the runs that the arguments ``argv`` name, and draw them."""
    parser = OneLineParser(prog=PROGRAM, description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run; several are drawn as seeds of one run"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="PNG to write")
    options = parser.read(argv)
    try:
        check_file(options.out, "--out")
        found = [read_run(folder) for folder in options.runs]
        kinds = {kind for kind, _ in found}
        if len(kinds) > 1:
            raise ValueError("some runs are of train/ppo.py, others of train/search.py: draw one kind at a time.")
        heading = f"{len(found)} runs: mean, and band from the lowest to the highest" if len(found) > 1 else "1 run"
        draw_runs(KINDS[kinds.pop()], [curves for _, curves in found], heading, options.out)
    except ImportError:
        refuse(PROGRAM, "curves need matplotlib: pip install matplotlib")
    except ValueError as error:
        refuse(PROGRAM, str(error))
    return 0


if __name__ == "__main__":
    run_and_exit(main)
