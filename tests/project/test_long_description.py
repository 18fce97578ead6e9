"""What a package index shows: the README without relative pictures and links."""

from __future__ import annotations

import re
import runpy
import sys
import types
from typing import Any

import pytest

from tests.project.pages import ROOT

RELATIVE = re.compile(r"\]\((?!https?:|#)")


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The hook; where the build back end is not installed, with a stand-in for the class that it offers."""
    name = "hatchling.metadata.plugin.interface"
    stand_in = types.ModuleType(name)
    stand_in.MetadataHookInterface = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, stand_in)
    return runpy.run_path(str(ROOT / "docs" / "tools" / "long_description.py"))


def test_without_a_public_address_nothing_leads_nowhere(tool: dict[str, Any]) -> None:
    """No relative link or picture, no caption of a picture that is not there; all the rest."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = tool["long_description"](readme, "")
    assert RELATIVE.search(readme) and not RELATIVE.search(text) and "![" not in text
    assert "The same arrivals on the same four servers" in readme and "The same arrivals on the same" not in text
    assert "<!--" not in text and "## Two commands" in text and "docs/howto/own_trace.md" in text
    assert text.count("```") == readme.count("```")


def test_with_an_address_all_is_absolute(tool: dict[str, Any]) -> None:
    """Pictures too; what was absolute stays."""
    text = tool["long_description"](
        "![a](docs/x.png)\n\n*Caption.*\n\n[b](c.md#d) [e](https://f.org) [g](#h)\n", "https://u.org/r/"
    )
    assert (
        text
        == "![a](https://u.org/r/docs/x.png)\n\n*Caption.*\n\n[b](https://u.org/r/c.md#d) [e](https://f.org) [g](#h)\n"
    )


def test_nobody_is_told_to_install_what_is_not_published() -> None:
    """`pip install llmsched` would fetch whatever has that name."""
    named = re.compile(r"pip install (?:-\S+ )*['\"]?llmsched(?![-\w/]*\.whl)")
    folders = ("llmsched", "llmsched_env", "policies", "train", "eval", "docs", "data", "examples", ".github")
    files = [
        file
        for folder in folders
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".md", ".py", ".yml", ".ipynb")
    ]
    for file in [*ROOT.glob("*.md"), ROOT / "Makefile", *files]:
        assert not named.search(file.read_text(encoding="utf-8")), file.relative_to(ROOT)
    assert named.search("pip install 'llmsched[plots]'") and not named.search(
        "pip install dist/llmsched-0.1.0-py3-none-any.whl"
    )
