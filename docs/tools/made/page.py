"""The end of every tool that makes a page or a part of one: it is written, or compared with what stands there."""

from __future__ import annotations

import sys
from pathlib import Path


def with_part(page: Path, begin: str, end: str, part: str) -> str:
    """The text of ``page`` with ``part`` in place of what stands between the lines ``begin`` and ``end``."""
    before, rest = page.read_text(encoding="utf-8").split(begin)
    return f"{before}{begin}\n{part}\n{end}{rest.split(end)[1]}"


def write_or_check(page: Path, text: str, check: bool) -> int:
    """Write ``text`` to ``page``; with ``check`` only say whether it stands there (exit code 1: it does not)."""
    if not check:
        page.write_text(text, encoding="utf-8")
        return 0
    fresh = page.is_file() and page.read_text(encoding="utf-8") == text
    old = f"{page.name} is old: run python docs/tools/{Path(sys.argv[0]).name}."
    print(f"{page.name} is up to date." if fresh else old)
    return 0 if fresh else 1
