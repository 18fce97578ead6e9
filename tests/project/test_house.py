"""The picture of the house, and the page about it, show the rooms that there are."""

from __future__ import annotations

import re
import runpy

from tests.project.pages import ROOT

HOUSE = runpy.run_path(str(ROOT / "docs" / "tools" / "draw_house.py"))
PAGE = ROOT / "docs" / "architecture.md"


def rooms() -> set[str]:
    """The folders of the project that hold code, as deep as the picture goes."""
    tops = {"eval", "train", "policies"}
    library = {f"llmsched_env/{path.parent.name}" for path in (ROOT / "llmsched_env").glob("*/__init__.py")}
    engines = {
        f"llmsched_env/engines/{path.parent.name}" for path in (ROOT / "llmsched_env/engines").glob("*/__init__.py")
    }
    return (tops | library | engines) - {"llmsched_env/engines"}


def test_the_picture_shows_every_room() -> None:
    """No room is missing in the picture, and none that it shows is gone."""
    shown = {room.folder for floor in HOUSE["FLOORS"] for room in floor}
    assert shown - {"llmsched_env/config.py"} == rooms()
    assert (ROOT / "llmsched_env" / "config.py").exists()


def test_the_picture_is_drawn_by_its_program() -> None:
    """docs/images/house.svg is what docs/tools/draw_house.py makes today."""
    assert HOUSE["PICTURE"].read_text(encoding="utf-8") == HOUSE["drawing"](), "run python docs/tools/draw_house.py"


def unknown_files(text: str) -> list[str]:
    """Python files in code spans of ``text`` that exist neither from the root nor from the library."""
    found = []
    for name in re.findall(r"`([a-z_/]+\.py)`", text):
        bases = [ROOT, ROOT / "llmsched_env", *(ROOT / top for top in ("eval", "policies"))]
        if not any((base / name).exists() for base in bases) and not any(ROOT.glob(f"llmsched_env/*/{name}")):
            found.append(name)
    return found


def test_the_page_names_files_that_exist() -> None:
    """Paths from the root, from the library, or bare names of files in a room that the line is about."""
    named = [name for name in unknown_files(PAGE.read_text(encoding="utf-8")) if "/" in name]
    assert not named


def test_unknown_files_are_found() -> None:
    """A wrong path is found; right ones are not."""
    assert unknown_files("`core/gone.py` `core/clock.py` `eval/compare.py` `config.py`") == ["core/gone.py"]
