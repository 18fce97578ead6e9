"""train/ppo.py and its network: parity with the compiled one, a tiny run, a kill and what comes after it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import torch

from llmsched.policies.network import batch_scores, checkpoint
from llmsched.policies.network.batch_layout import SHARED
from llmsched.train import ppo as training
from llmsched.train.callback import TrainingCallback
from llmsched.train.network import MASKED, Scorer
from llmsched_env.envs.spaces import ladder
from tests.policies.test_learned import random_arrays, random_image

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "--hyperparams {file} --start none --hidden 3 --systems 2 --requests 40 --rollout 16 --batch-size 48 "
    "--critic-steps 100 --save-every 2 --evaluate-every 4 --evaluation-requests 60 --steps 576"
)


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """Arguments of a run of seconds."""
    (tmp_path / "none.toml").write_text("")
    return TINY.format(file=tmp_path / "none.toml").split()


@pytest.mark.parametrize("max_batch", [1, 100, 128])
@pytest.mark.parametrize("bins", [1, 4])
def test_the_network_is_the_compiled_one(bins: int, max_batch: int) -> None:
    """To 1e-6 on random observations, in double precision."""
    rng = np.random.default_rng(bins)
    arrays = random_arrays(5, seed=7)
    net = Scorer(bins, max_batch, 5).double()
    net.load_arrays(arrays)
    packed = checkpoint.Checkpoint(arrays, {}).packed
    images = np.stack([random_image(rng, bins, max_batch) for _ in range(40)])
    scores = net(torch.as_tensor(images)).detach().numpy()
    for image, theirs in zip(images, scores, strict=True):
        ours = np.empty(1 + (bins + 2) * len(ladder(max_batch)))
        batch_scores.score_actions(image, bins, max_batch, int(image[SHARED - 1] >= 0.5), packed, ours)
        assert np.array_equal(np.isneginf(ours), theirs == MASKED)
        np.testing.assert_allclose(ours[np.isfinite(ours)], theirs[theirs != MASKED], rtol=0, atol=1e-6)


def test_exported_weights_are_the_network(tmp_path: Path) -> None:
    net = Scorer(2, 8, 3)
    net.load_arrays(random_arrays(3))
    checkpoint.save(tmp_path / "mine", net.arrays(), {"command": "none"})
    other = Scorer(2, 8, 3)
    other.load_arrays(checkpoint.load(tmp_path / "mine").arrays)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


class KilledError(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("algorithm", ["ppo", "maskable"])
def test_a_killed_run_goes_on_bit_for_bit(
    algorithm: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*tiny, "--algorithm", algorithm]
    assert training.main(["--out", str(tmp_path / "whole"), *arguments]) == 0
    whole = checkpoint.load(tmp_path / "whole" / "last")
    seen = TrainingCallback._on_rollout_end

    def pulled(self: TrainingCallback) -> None:
        seen(self)
        if self.rollouts == 4:  # saved before the third; two rollouts are lost
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCallback, "_on_rollout_end", pulled)
        with pytest.raises(KilledError):
            training.main(["--out", str(tmp_path / "cut"), *arguments])
    assert not (tmp_path / "cut" / "last.npz").exists()
    assert training.main(["--out", str(tmp_path / "cut"), "--resume", "--unpickle"]) == 0
    resumed = checkpoint.load(tmp_path / "cut" / "last")
    assert all(np.array_equal(whole.arrays[name], resumed.arrays[name]) for name in whole.arrays)


def test_a_run_is_self_contained_and_its_weights_compare(tiny: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert training.main(["--out", str(folder), *tiny]) == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["arguments"]["steps"] == 576 and config["threads"] == 1
    assert {"torch", "stable-baselines3"} <= config["versions"].keys() and len(config["systems"]) == 2
    columns = (folder / "progress.csv").read_text().splitlines()[0]
    for name in ("episodes/return", "episodes/misses_load_0.5_to_0.9", "decisions/wait", "validation/log_ratio"):
        assert name in columns
    assert "train/entropy_loss" in columns and list(folder.glob("events.out.tfevents.*"))
    command = [
        sys.executable,
        "eval/compare.py",
        "--policies",
        f"static,network:path={folder}/best",
        "--requests",
        "200",
    ]
    run = subprocess.run([*command, "--seeds", "2"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "network:path=" in run.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--algorithm", "dqn"], "choose ppo or maskable"),
        (["--steps", "0"], "steps=0 is not allowed"),
        (["--resume", "--unpickle"], "config.json"),
        (["--resume"], "--unpickle"),
        (["--hyperparams", "nowhere.toml"], "nowhere.toml"),
        (["--evaluation-seeds", "0"], "evaluation_seeds=0 is not allowed"),
        (["--seed", "-1"], "seed=-1 is not allowed"),
        (["--learning-rate", "nan"], "learning_rate=nan is not allowed"),
        (["--gae-lambda", "2"], "gae_lambda=2.0 is not allowed"),
    ],
)
def test_refusals(words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        training.main(["--out", str(tmp_path / "none"), *words])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and reason in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("steps = 1e6", "steps=1000000.0 is not allowed"),
        ("lanes = true", "lanes=True is not allowed"),
        ('clip = "wide"', "clip='wide' is not allowed"),
        ("step = 5", "'step' is not an argument. Did you mean steps?"),
        ("start = 3", "start=3 is not allowed"),
        ("steps = ", "Invalid value"),
    ],
)
def test_a_bad_file_of_arguments_is_refused(line: str, reason: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(line + "\n")
    with pytest.raises(SystemExit) as caught:
        training.main(["--out", str(tmp_path / "none"), "--hyperparams", str(file)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and reason in error and "mine.toml" in error and len(error.splitlines()) == 1


def test_a_folder_is_not_written_over(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SystemExit) as caught:
        training.main(["--out", str(tmp_path), *tiny])
    assert caught.value.code == 2
    assert "give --resume" in capsys.readouterr().err
