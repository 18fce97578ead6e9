"""Figures take most of the time of a small run: tests that are not about them do without."""

from __future__ import annotations

import pytest

from llmsched.eval.figures import style


@pytest.fixture(autouse=True)
def no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing, unless the test is marked with ``figures``."""
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr(style, "draw_all", lambda drawings: {})
