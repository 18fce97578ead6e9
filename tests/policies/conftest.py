"""What a test registers is gone after it."""

from __future__ import annotations

import pytest

from llmsched.policies import registry


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_POLICIES", dict(registry._POLICIES))
