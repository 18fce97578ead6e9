"""The files of an exported agent: what is written comes back, and nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.policies import parse
from llmsched.policies.agent import checkpoint
from tests.policies.agent.tools import ABOUT, SCENARIOS, random_agent

CONFIG = SCENARIOS["batch"][0]


def saved(folder: Path) -> tuple[Path, dict[str, Any]]:
    """(an agent without suffix, its JSON)."""
    random_agent(folder / "mine", CONFIG)
    return folder / "mine", json.loads((folder / "mine.json").read_text())


def refused(path: Path) -> str:
    """What is said instead of loading the agent."""
    with pytest.raises(ValueError, match="mine") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_agent_comes_back(tmp_path: Path) -> None:
    made = random_agent(tmp_path / "folder" / "mine", CONFIG, "multidiscrete", masked=False, activation="relu")
    for name in ("mine", "mine.npz", "mine.json"):
        found = checkpoint.load(tmp_path / "folder" / name)
        assert found.face == made.face and found.layers == made.layers == [85, 16, 12, 18]
        assert found.packed.tolist() == made.packed.tolist()
        assert {key: found.about[key] for key in ABOUT} == {**ABOUT, "masked": False, "activation": "relu"}


CHANGES: dict[str, tuple[Any, str]] = {
    "format": ("llmsched-policy/v1", "is not known: give a llmsched-agent/v1 agent"),
    "engine": ("batches", "engine='batches' is not allowed: give one of batch, continuous"),
    "action": ([1], "give one of multidiscrete, ladder"),
    "activation": ("gelu", "give one of tanh, relu"),
    "kind": (None, "give one of logits, q"),
    "max_bins": (10**9, "give a whole number from 1 to"),
    "max_batch": (True, "give a whole number from 1 to"),
    "overdue": (1, "give true or false"),
    "masked": ("yes", "give true or false"),
    "refusals": (0, "give true or false"),
    "cached": (True, "false for this engine"),
    "layers": ([85, 10**12, 31], "whole numbers from 1 to"),
    "sha256": ("0", "its hash is not the one in mine.json"),
    "observation": ({}, "made for another layout"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_field_is_refused(name: str, tmp_path: Path) -> None:
    path, document = saved(tmp_path)
    value, said = CHANGES[name]
    path.with_suffix(".json").write_text(json.dumps({**document, name: value}))
    assert said in refused(path)
    del document[name]
    path.with_suffix(".json").write_text(json.dumps(document))
    refused(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_bins", 5), ("max_batch", 40), ("overdue", True), ("refusals", True), ("action", "multidiscrete")],
)
def test_spaces_that_are_not_those_of_the_network_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    """One more bin has more inputs, a larger batch more outputs."""
    path, document = saved(tmp_path)
    path.with_suffix(".json").write_text(json.dumps({**document, name: value}))
    assert "export it for the environment that it was trained in" in refused(path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """Missing, cut, of other shapes or types, not finite, and a pickle."""
    path, _ = saved(tmp_path)
    npz, arrays = path.with_suffix(".npz"), dict(checkpoint.load(path).arrays)
    whole = npz.read_bytes()
    npz.write_bytes(whole[:-100])
    assert "cannot be read as plain arrays" in refused(path)
    for changed, said in (
        ({**arrays, "weight0": arrays["weight0"][:, 1:]}, "its arrays are not those of the layers"),
        ({**arrays, "more": arrays["bias0"]}, "its arrays are not those of the layers"),
        ({name: array.astype(np.float32) for name, array in arrays.items()}, "not float64"),
        ({**arrays, "bias0": arrays["bias0"] + np.nan}, "its hash is not the one"),
        ({**arrays, "bias0": np.array([{}] * 16)}, "cannot be read as plain arrays"),
    ):
        np.savez(npz, **changed)
        assert said in refused(path)
    npz.unlink()
    assert "the weights are missing" in refused(path)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    face = random_agent(tmp_path / "mine", CONFIG).face
    layers = [(np.full((sum(face.parts), face.inputs), np.nan), np.zeros(sum(face.parts)))]
    with pytest.raises(ValueError, match="training diverged"):
        checkpoint.save(tmp_path / "other", face, layers, **ABOUT)
    assert not (tmp_path / "other.npz").exists()


def test_a_zip_of_a_learner_is_not_opened(tmp_path: Path) -> None:
    """It says how to export it."""
    (tmp_path / "mine.zip").write_bytes(b"PK")
    for name in ("mine", "mine.zip"):
        assert "export it first: python train/export.py" in refused(tmp_path / name)
    with pytest.raises(ValueError, match="there is no such checkpoint"):
        parse(f"agent:path={tmp_path / 'none'}").ready(CONFIG)
