"""What all tests of commands share."""

from __future__ import annotations

import pytest

from llmsched.eval.cli import progress


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine, or one that compiles, takes longer than a line of progress waits: standard error stays empty."""
    monkeypatch.setattr(progress, "LINE_S", float("inf"))
