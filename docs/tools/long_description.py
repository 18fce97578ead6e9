"""The long description of the package: the README, in a form that holds on a package index (pyproject.toml: hooks).

An index shows no picture and follows no link that is relative.  With ``url``, the public address of the files of the
repository, links and pictures become absolute; without one, as long as there is none, pictures are left out with their
captions, and of links only the words stay.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)\s]+\)\n+(?:\*[^*]+\*\n+)?")
"""A picture that lies in the repository, and the caption in italics below it."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")
MARK = re.compile(r"<!-- made\n.*?-->\n|<!-- end of made -->\n?", flags=re.S)
"""Marks for docs/tools/regenerate.py, which nobody reads."""


def long_description(readme: str, url: str) -> str:
    """The text of the README for an index."""
    text = MARK.sub("", readme)
    if url:
        return LINK.sub(lambda link: f"{link[1]}[{link[2]}]({url.rstrip('/')}/{link[3]})", text)
    return LINK.sub(r"\2", PICTURE.sub("", text))


class LongDescription(MetadataHookInterface):
    """Hatchling asks it for the field ``readme``."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the field."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = long_description(readme, self.config.get("url", ""))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
