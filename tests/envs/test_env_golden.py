"""Golden trajectories: the registered ids do what they did when their number was given."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import llmsched_env  # noqa: F401  (registers the environments)
from tests.envs.golden.make import CASES, FOLDER, SEEDS, trajectory

RULE = (
    "{id} does not do what it did ({name}, step {step}: {what}).  If that is meant, the number after -v has to rise, "
    "with the reason in CHANGELOG.md (its first paragraph is the rule); then run python tests/envs/golden/make.py."
)
COLUMNS = ("clock", "reward", "observation", "terminated", "truncated")
KEPT = [(env_id, name, seed) for env_id, cases in CASES.items() for name in cases for seed in SEEDS]


def differences(found: list[list[float]], kept: list[list[float]]) -> tuple[int, str] | None:
    """First step at which two trajectories part, and in what; None: they do not.

    Compared to 1e-6: machines may differ in the last bits of exp and log, never by more.
    """
    for step, (row, old) in enumerate(zip(found, kept, strict=False)):
        close = np.isclose(row, old, rtol=1e-6, atol=1e-7)
        if not close.all():
            column = int(np.argmin(close))
            return step, f"{COLUMNS[column]} {row[column]!r}, kept is {old[column]!r}"
    if len(found) != len(kept):
        return min(len(found), len(kept)), f"{len(found)} steps, kept are {len(kept)}"
    return None


@pytest.mark.parametrize(("env_id", "name", "seed"), KEPT, ids=str)
def test_the_trajectory_is_the_kept_one(env_id: str, name: str, seed: int) -> None:
    """Step by step, over a seeded episode and the beginning of the next."""
    kept = json.loads((FOLDER / f"{env_id}.json").read_text(encoding="utf-8"))[f"{name}, seed {seed}"]
    parted = differences(trajectory(env_id, CASES[env_id][name], seed), kept)
    if parted is not None:
        pytest.fail(RULE.format(id=env_id, name=name, step=parted[0], what=parted[1]))


def test_every_registered_id_is_kept() -> None:
    """A new id comes with its trajectories."""
    ours = {name for name in gym.registry if name.startswith("LLMSched")}
    assert ours == set(CASES) == {path.stem for path in FOLDER.glob("*.json")}


def test_the_rule_is_written_down() -> None:
    """Where the message sends people."""
    text = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
    first = " ".join(text.split("\n\n")[1].split())
    assert "LLMSched-v0" in first and "golden" in first and "the number after `-v` rises" in first


def test_small_changes_are_seen() -> None:
    """A part in a million of a reward, one entry of the observation, a flag, a missing step."""
    kept = json.loads((FOLDER / "LLMSched-v0.json").read_text(encoding="utf-8"))["default, seed 0"]
    assert len(kept) > 30 and differences(kept, kept) is None
    for column in range(5):
        moved = [list(row) for row in kept]
        moved[7][column] += max(abs(moved[7][column]), 0.01) * 2e-5
        parted = differences(moved, kept)
        assert parted is not None and parted[0] == 7 and COLUMNS[column] in parted[1]
    parted = differences(kept[:-1], kept)
    assert parted is not None and "steps" in parted[1]
