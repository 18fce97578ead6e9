"""The line about overloaded policies."""

import pytest

from llmsched.eval.experiments.overload import arrival_rates, overload_notes, overloaded
from llmsched.eval.runs.cells import crew_of
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.runner import Cell, run_cells
from llmsched.eval.runs.tune import Entrant
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse

WORDS = ("--requests", "3000", "--servers", "1", "--bins", "1", "--burstiness", "1", "--workload", "poisson")


def runs_at(rate: float, *names: str) -> tuple[list[Entrant], list[Outcome], dict[int, float]]:
    """The entrants, two runs of each, and the arrival rates."""
    scenario = scenario_of(*WORDS, "--rate", str(rate))
    entrants = [Entrant(parse(name), scenario) for name in names]
    cells = [Cell(one.label, one.policy, scenario, seed) for seed in (0, 1) for one in entrants]
    done = [outcome for _, outcome in run_cells(cells, 1)]
    return entrants, done, arrival_rates(scenario, (0, 1))


def test_a_policy_that_serves_one_at_a_time_is_overloaded_and_one_that_batches_is_not() -> None:
    """A batch of one carries less than a request per service time; the same servers carry more in batches."""
    entrants, done, rates = runs_at(3.0, "static:batch=1", "static:batch=64")
    marks = overloaded(done, rates)
    assert list(marks) == ["static:batch=1"]
    completed, offered = marks["static:batch=1"]
    assert completed < 0.95 * offered and offered == pytest.approx(3.0, rel=0.1)
    (note,) = overload_notes(entrants, done, rates, crew_of(1))
    assert note.startswith("static:batch=1 is overloaded") and "auto" not in note


def test_the_default_setting_is_held_against_the_automatic_one() -> None:
    """`static` has batch=8; where that is too small the line says what batch=auto takes and meets."""
    entrants, done, rates = runs_at(14.0, "static")
    (note,) = overload_notes(entrants, done, rates, crew_of(1))
    assert "With batch=auto: static -> static:batch=" in note and "% met their SLO on validation seeds" in note


def test_light_load_says_nothing() -> None:
    """Nobody is overloaded where the servers are idle half of the time."""
    entrants, done, rates = runs_at(0.3, "static", "static:batch=1")
    assert overload_notes(entrants, done, rates, crew_of(1)) == []
