"""train/ppo_grouped.py: what decisions cost, probabilities from the allowed actions alone, a tiny run and a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import torch

from llmsched.policies import parse
from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train import ppo_grouped
from llmsched.train.grouped.costs import costs_to_go
from llmsched.train.grouped.groups import Group
from llmsched.train.grouped.recording import MAX_BINS, make_recorder, make_watcher, read_log
from llmsched.train.grouped.sparse import features_of, log_probabilities
from llmsched.train.grouped.training import Training
from llmsched.train.network import Scorer, initialise
from llmsched.train.systems import TrainingSystem
from llmsched_env.core.view.observation import size

TINY = [
    *("--systems", "2", "--requests", "80", "--groups", "2", "--runs", "2", "--iterations", "12", "--hidden", "3"),
    *("--teacher", "multibin", "--clone", "2", "--critic-iterations", "1", "--evaluate-every", "5"),
    *("--evaluation-requests", "60", "--seed", "3"),
]


def test_costs_to_come() -> None:
    """A miss counts from the instant on at which it is charged, and less the later it comes."""
    found = costs_to_go(np.array([0.0, 1.0, 1.5, 9.0]), np.array([1.0, 2.0]), 1.0)
    e = np.exp
    assert found == pytest.approx([e(-1.0) + e(-2.0), 1.0 + e(-1.0), e(-0.5), 0.0])


@pytest.fixture(scope="module", params=["network", "ppo:refuse=yes"])
def group(request: pytest.FixtureRequest) -> Group:
    """A small system with two bins, short of capacity; with an overdue queue, and with refusals in its place."""
    return Group(0, TrainingSystem(bins=2, servers=2, max_batch=16), 120, make_recorder(), parse(request.param))


def played(group: Group, scorer: Scorer, seed: int = 0) -> list:
    weights = LAYOUTS["batch"].pack(scorer.arrays())
    return group.play(1.6, 1_000_000, weights, 3, 4.0, np.random.default_rng(seed))


def small_scorer() -> Scorer:
    torch.manual_seed(0)
    scorer = Scorer(MAX_BINS, 16, 4)
    initialise(scorer)
    return scorer


def test_probabilities_are_those_of_the_network(group: Group) -> None:
    """The sparse form is a softmax of `Scorer.forward`, and every action that was drawn is allowed there."""
    scorer = small_scorer().double()
    for run in played(group, scorer):
        if not group.ready.config.queueing.has_overdue:
            assert not run.images[:, size(MAX_BINS) :].any()  # what nothing writes is 0
        images, actions = torch.from_numpy(run.images).double(), torch.from_numpy(run.actions)
        features = features_of(scorer, images, actions)
        whole = torch.log_softmax(scorer(images), dim=-1)
        with torch.no_grad():
            found = log_probabilities(scorer, features)
        assert torch.allclose(found[features.taken], whole[torch.arange(len(actions)), actions], atol=1e-5)
        assert len(found) == int((whole > -1e6).sum())


def test_runs_of_a_group_share_arrivals_and_are_each_others_baseline(group: Group) -> None:
    """The cost of the others is the mean of the other runs' cost, and costs add up to the cost to come."""
    runs = played(group, small_scorer())
    assert len(runs) == 3 and {len(run.actions) for run in runs} != {1}
    first = [run.to_go[0] for run in runs]  # all begin at the first arrival
    assert runs[0].others[0] == pytest.approx((first[1] + first[2]) / 2)
    for run in runs:
        kept = np.exp(-np.append(0.0, np.cumsum(run.gaps[:-1])))
        assert float((run.costs * kept).sum()) == pytest.approx(run.to_go[0])


def test_what_a_teacher_does_is_written_down(group: Group) -> None:
    """A rule that takes its target is the target's rung of its bin."""
    group.simulator.load(0, group.system.arrivals(group.system.capacity, 120).draw(1))
    group.memory[0] = 0.0
    teacher = parse("longest-queue")
    group.simulator.run(
        make_watcher(teacher.decide),
        teacher.ready(group.system.config).params,
        group.memory,
        np.random.default_rng(0),
        details=True,
    )
    _, actions, _ = read_log(group.memory)
    rungs = 6  # 1, 2, 4, 8, 16, target
    assert len(actions) > 5 and set((actions - 1) % rungs) == {rungs - 1}
    assert set((actions - 1) // rungs) <= {0, 1, MAX_BINS + 1}


class KilledError(Exception):
    """Somebody pulled the plug."""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert ppo_grouped.main(["--out", str(whole), *TINY]) == 0
    seen = Training._iterate

    def pulled(self: Training, rng: np.random.Generator) -> dict[str, float]:
        if self.done == 11:  # saved after ten
            raise KilledError
        return seen(self, rng)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_iterate", pulled)
        with pytest.raises(KilledError):
            ppo_grouped.main(["--out", str(cut), *TINY])
    assert not (cut / "last.npz").exists() and ppo_grouped.main(["--out", str(cut), "--resume"]) == 0
    for name in ("last", "best"):
        ours, theirs = checkpoint.load(whole / name), checkpoint.load(cut / name)
        assert all(np.array_equal(ours.arrays[key], theirs.arrays[key]) for key in ours.arrays)
    about = json.loads((whole / "last.json").read_text())
    assert about["arguments"]["teacher"] == "multibin" and about["iteration"] == 12 and "cpu_s" in about
    assert parse(f"network:path={whole / 'best'}").policy.name == "network"
    assert (whole / "curve.csv").read_text().count("\n") == 13


def test_a_seed_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    """Weights of every stage and the curve; another seed gives others."""
    found = {}
    for name, seed in (("first", "3"), ("again", "3"), ("other", "4")):
        words = [*TINY, "--iterations", "3", "--seed", seed]
        assert ppo_grouped.main(["--out", str(tmp_path / name), *words]) == 0
        found[name] = [(tmp_path / name / f).read_bytes() for f in ("cloned.npz", "best.npz", "last.npz", "curve.csv")]
    assert found["first"] == found["again"]
    assert all(ours != theirs for ours, theirs in zip(found["first"], found["other"], strict=True))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--runs", "1"], "--runs 1 is not allowed"),
        (["--learning-rate", "nan"], "--learning-rate nan is not allowed"),
        (["--resume"], "holds no run to continue"),
        (["--start", "nowhere"], "nowhere"),
        (["--teacher", "nobody"], "nobody"),
    ],
)
def test_refusals(words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        ppo_grouped.main(["--out", str(tmp_path / "none"), "--systems", "1", "--requests", "50", *words])
    error = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and reason in error[-1]
