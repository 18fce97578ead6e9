"""Everything is compiled before a clock runs; at the end the counts are printed; no figures, which take long."""

from __future__ import annotations

import pytest

from llmsched.eval import warmup
from llmsched.eval.figures import style
from tests.faults.tools import run
from tests.injection.tools import TRIED


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """The engines and the policies that the tests with a limit of time run: without a cache that takes minutes."""
    assert run("--engine", "both", "--for", "comparisons", main=warmup.main).code == 0
    assert run("--policies", "static,multibin,network").code == 0
    assert run("--engine", "continuous", "--policies", "fcfs,static").code == 0


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing."""
    monkeypatch.setattr(style, "draw_all", lambda drawings: {})
    monkeypatch.setattr(style, "draw_to", lambda path, draw, dpi=150: None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many faults of every kind were injected."""
    for kind, count in sorted(TRIED.items()):
        terminalreporter.write_line(f"{count:6,} {kind}")
