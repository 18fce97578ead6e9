"""Factors of the overdue queue that a checkpoint carries: used, overridden, and refused where they are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmsched.policies import parse
from llmsched.policies.network import checkpoint, settings
from llmsched.train.systems import TrainingSystem

SHIPPED = checkpoint.load_shipped("batch")
CONFIG = TrainingSystem().config


def saved(folder: Path, **fields: Any) -> str:
    """The shipped weights in a folder, with further fields in their JSON."""
    checkpoint.save(folder / "mine", SHIPPED.arrays, {"command": "none", **fields})
    return str(folder / "mine")


def factors(text: str) -> tuple[float | None, float | None]:
    """Those that a run of the policy has."""
    queueing = parse(text).ready(CONFIG).config.queueing
    return queueing.overdue_factor, queueing.overdue_batch_factor


def test_they_are_used_and_what_is_written_overrides_them(tmp_path: Path) -> None:
    """Each factor by itself."""
    path = saved(tmp_path, overdue_factors=[0.5, 0.65])
    assert checkpoint.load(path).overdue == (0.5, 0.65)
    assert factors(f"network:path={path}") == (0.5, 0.65)
    assert factors(f"network:path={path}:overdue=3") == (3.0, 0.65)
    assert factors(f"network:path={path}:overdue_batch=0.9") == (0.5, 0.9)


def test_without_them_the_network_sets_its_own(tmp_path: Path) -> None:
    """As the shipped weights do."""
    own = (settings.OVERDUE_FACTOR["batch"], settings.OVERDUE_BATCH_FACTOR)
    assert checkpoint.load(saved(tmp_path)).overdue is None
    assert factors(f"network:path={saved(tmp_path)}") == factors("network") == own


@pytest.mark.parametrize("value", [[1.0], [1.0, -0.1], [1.0, 101.0], ["1", 0.5], [True, 0.5], 0.5, {"a": 1}, "wait"])
def test_what_are_no_factors_is_refused(tmp_path: Path, value: Any) -> None:
    """In one line, before a run."""
    path = saved(tmp_path, overdue_factors=value)
    for load in (checkpoint.load, lambda path: parse(f"network:path={path}").ready(CONFIG)):
        with pytest.raises(
            ValueError, match=r"mine\.json: overdue_factors .* give two factors from 0 to 100"
        ) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """JSON as Python reads it knows NaN."""
    path = Path(saved(tmp_path, overdue_factors=[0.5, 0.5]))
    file = path.with_suffix(".json")
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | {"overdue_factors": [float("nan"), 0.5]}))
    with pytest.raises(ValueError):
        checkpoint.load(path)


def test_they_belong_to_the_engine_batch(tmp_path: Path) -> None:
    """The network of `continuous` has one factor, which is not chosen."""
    found = checkpoint.load_shipped("continuous")
    about = {"command": "none", "engine": "continuous", "overdue_factors": [0.5, 0.5]}
    checkpoint.save(tmp_path / "mine", found.arrays, about)
    with pytest.raises(ValueError, match="in the engine batch"):
        checkpoint.load(tmp_path / "mine")
