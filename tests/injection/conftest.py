"""At the end the counts are printed; figures are left out, which take most of the time of a small run."""

from __future__ import annotations

import pytest

from llmsched.eval.figures import style
from tests.injection.tools import TRIED


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing."""
    monkeypatch.setattr(style, "draw_all", lambda drawings: {})
    monkeypatch.setattr(style, "draw_to", lambda path, draw, dpi=150: None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many faults of every kind were injected."""
    for kind, count in sorted(TRIED.items()):
        terminalreporter.write_line(f"{count:6,} {kind}")
