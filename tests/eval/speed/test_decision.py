"""Rows of what a decision costs: the forecasts and both networks, each with its own runs behind it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from llmsched.eval.speed import decision


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences of what the notes say."""
    monkeypatch.setattr(decision, "REQUESTS", 300)
    monkeypatch.setattr(decision, "BINS", (4,))
    forecasts, *networks = decision.measure(1)
    assert [row.name for row in (forecasts, *networks)] == ["forecasts, 4 bins", "network, 4 bins", "ppo, 4 bins"]
    with_forecasts, without = (float(x) for x in re.findall(r"([0-9.]+) us", forecasts.note))
    assert forecasts.unit == "us" and forecasts.value == pytest.approx(with_forecasts - without, abs=0.011)
    for row in networks:
        (whole,) = (float(x) for x in re.findall(r"([0-9.]+) us", row.note))
        assert np.isfinite(row.value) and row.value == pytest.approx(whole - with_forecasts, abs=0.011)
