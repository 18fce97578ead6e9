"""Draw the rooms of the project from top to bottom: python docs/tools/draw_house.py writes docs/images/house.svg.

The picture has a background of its own, so it is legible in dark mode, and large letters, so it is legible on a phone.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "images" / "house.svg"
WIDTH, EDGE, GAP = 640, 16, 12
PAPER, INK, FAINT, WALL = "#fbfaf7", "#1d2430", "#5b6472", "#c9cdd4"


@dataclass(frozen=True)
class Room:
    """A folder, or files beside the folders: the path from the root, what is in it, and its colour."""

    folder: str
    says: str
    colour: str


OUTSIDE, LIBRARY, RULES, GROUND = "#dfe8fb", "#e3f3e6", "#fdeccf", "#eceef1"
FLOORS: tuple[tuple[Room, ...], ...] = (
    (Room("eval", "commands, reports", OUTSIDE), Room("train", "learners, search", OUTSIDE)),
    (Room("policies", "registry, rules/, network/", OUTSIDE),),
    (Room("llmsched_env/envs", "Gymnasium: scalar, vector, render/", LIBRARY),),
    (Room("llmsched_env/workload", "generators, traces, predictors, bins", LIBRARY),),
    (Room("llmsched_env/simulation", "one run and its metrics", LIBRARY),),
    (Room("llmsched_env/config.py", "and profiles, servers, requests: what a run is made of", GROUND),),
    (
        Room("llmsched_env/engines/batch", "run to completion", RULES),
        Room("llmsched_env/engines/continuous", "by iteration", RULES),
    ),
    (
        Room("llmsched_env/options", "each declared once", GROUND),
        Room("llmsched_env/commands", "exit codes, streams", GROUND),
    ),
    (Room("llmsched_env/core", "clock, queueing/, controllers, loops, view/", LIBRARY),),
    (
        Room("llmsched_env/compiler", "Numba, caches", GROUND),
        Room("llmsched_env/files", "read, written, shown", GROUND),
    ),
)
HEIGHT_OF_FLOOR = 70


def text(x: float, y: float, size: int, words: str, colour: str = INK, more: str = "") -> str:
    """A line of text whose baseline begins at (x, y)."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>'


def box(x: float, y: float, width: float, room: Room) -> list[str]:
    """A room with its short name and what is in it."""
    name = room.folder.removeprefix("llmsched_env/") + ("" if room.folder.endswith(".py") else "/")
    frame = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT_OF_FLOOR}" rx="8" fill="{room.colour}"'
    return [
        f'{frame} stroke="{WALL}"/>',
        text(x + 12, y + 31, 23, name, more=' font-weight="600"'),
        text(x + 12, y + 57, 19, room.says, FAINT),
    ]


def floor(y: float, rooms: tuple[Room, ...], left: float) -> list[str]:
    """Rooms side by side from ``left`` to the right edge."""
    space = WIDTH - 2 * left - GAP * (len(rooms) - 1)
    parts = []
    for number, room in enumerate(rooms):
        parts += box(left + number * (space / len(rooms) + GAP), y, space / len(rooms), room)
    return parts


def drawing() -> str:
    """The picture as SVG."""
    parts: list[str] = []
    y = 62.0
    for rooms in FLOORS:
        inside = rooms[0].folder.startswith("llmsched_env/")
        if inside and "library" not in "".join(parts):
            top = y + 4
            parts.append(text(EDGE + 12, y + 32, 21, "llmsched_env/, the library", FAINT))
            y += 46
        parts += floor(y, rooms, EDGE + 12 if inside else EDGE)
        y += HEIGHT_OF_FLOOR + GAP
    height = y + EDGE
    wall = f'<rect x="{EDGE}" y="{top:g}" width="{WIDTH - 2 * EDGE}" height="{y - top:g}" rx="10" fill="none"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="sans-serif" role="img">'
    )
    title = "<title>Rooms of the project: imports run from top to bottom, and never between the two engines</title>"
    return "\n".join(
        [
            head,
            title,
            f'<rect width="{WIDTH}" height="{height:g}" fill="{PAPER}"/>',
            text(EDGE, 40, 23, "Imports run down, never up", more=' font-weight="600"'),
            f'<path d="M{WIDTH - 40} 16 v26 m-9 -10 l9 11 l9 -11" fill="none" stroke="{INK}" stroke-width="3"/>',
            f'{wall} stroke="{FAINT}" stroke-width="2"/>',
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
