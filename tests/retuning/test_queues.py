"""The factors of the overdue queue that retuning chooses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llmsched.policies.network import checkpoint
from llmsched.train.retuning import queues
from llmsched.train.systems import TrainingSystem
from llmsched.train.validation import ScoredRun, make_runs, score_weights

WEIGHTS = checkpoint.load_shipped("batch").packed
SYSTEM = TrainingSystem(servers=1)


@pytest.fixture(scope="module")
def runs() -> list[ScoredRun]:
    """Two loads at which requests are late."""
    return make_runs([SYSTEM], (0, 1), 300, (0.9, 1.5), "multibin")


def test_the_least_loss_is_chosen(runs: list[ScoredRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """Written anew over a short grid; the number of jobs changes nothing."""
    grid = ((0.0, 0.5), (1.0, 0.8), (3.0, 0.8))
    monkeypatch.setattr(queues, "GRID", grid)
    losses = {pair: score_weights(runs, WEIGHTS, queues.with_overdue(pair)).mean for pair in (queues.OF_NETWORK, *grid)}
    assert len(set(losses.values())) == 4
    for jobs in (1, 2):
        found = queues.choose_overdue(SYSTEM.config, runs, WEIGHTS, None, jobs)
        assert losses[found] == min(losses.values())


def test_own_factors_stay_where_others_are_no_better(runs: list[ScoredRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the weights that are retuned, before equal ones."""
    monkeypatch.setattr(queues, "GRID", ((7.0, 0.75), queues.OF_NETWORK))
    monkeypatch.setattr(queues, "score_weights", lambda *_: type("Score", (), {"mean": 0.0}))
    assert queues.choose_overdue(SYSTEM.config, runs, WEIGHTS, (7.5, 0.7), 1) == (7.5, 0.7)


def test_few_runs_of_many_are_looked_at(runs: list[ScoredRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly spaced, the first and the last among them."""
    seen: list[list[str]] = []

    def score(kept: list[ScoredRun], *_: object) -> object:
        seen.append([run.rival for run in kept])
        return type("Score", (), {"mean": 0.0})

    many = [dataclasses.replace(runs[0], rival=str(number)) for number in range(301)]
    monkeypatch.setattr(queues, "score_weights", score)
    queues.choose_overdue(SYSTEM.config, many, WEIGHTS, None, 1)
    assert {len(kept) for kept in seen} == {queues.MOST_RUNS} and seen[0][0] == "0" and seen[0][-1] == "300"
    assert np.ptp(np.diff([int(number) for number in seen[0]])) <= 1
