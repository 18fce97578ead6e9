"""Capacity in sentences, by percentiles, with searched caps, along a curve that goes on until it has fallen."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from llmsched.eval import capacity as command
from llmsched.eval.cli.frame import Session
from llmsched.eval.experiments.capacity.caps import BATCHES, capped, pairs, with_best_caps
from llmsched.eval.experiments.capacity.measure import Measure, read_percentile
from llmsched.eval.experiments.capacity.sentences import rates_sentence, servers_sentence
from llmsched.eval.report.tables import Column, Table
from llmsched.eval.runs.cells import Crew
from llmsched.eval.runs.tune import Entrant, Goal, capacity
from llmsched.eval.scenarios.variants import OF_2023, scenario_of
from llmsched.policies import parse

SMALL = ["--requests", "400", "--seeds", "2", "--policies", "dynamic,multibin", "--scales", "1"]


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What --json prints."""
    assert command.main([*SMALL, *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_percentile_is_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    """p95 of E2E within 30 s is 95 % of the requests within 30 s, but for the last few requests."""
    shares = found(capsys, *OF_2023, "--shares", "0.95", "--goodput", "e2el:30000")["tables"]
    percentiles = found(capsys, *OF_2023, "--percentiles", "p95:e2el:30000")["tables"]
    for one, other in zip(shares["capacity"], percentiles["capacity"], strict=True):
        assert other["rate_1"] == pytest.approx(one["rate_0.95"], rel=0.1)
    for one, other in zip(shares["servers"], percentiles["servers"], strict=True):
        assert abs(one["servers"] - other["servers"]) <= 1


def test_all_percentiles_have_to_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """Two targets carry no more than the tighter of them; the answer names both."""
    both = found(capsys, *OF_2023, "--percentiles", "p95:e2el:30000", "p50:e2el:9000")
    alone = found(capsys, *OF_2023, "--percentiles", "p50:e2el:9000")["tables"]["capacity"]
    for two, one in zip(both["tables"]["capacity"], alone, strict=True):
        assert two["rate_1"] <= one["rate_1"] * 1.001
    assert "with p95 e2el <= 30000 ms, p50 e2el <= 9000 ms" in both["answer"][0]
    assert "by_scale" not in both["tables"]


def test_requests_that_never_end_miss_a_percentile() -> None:
    """p95 allows 5 % of them, p99 one; a latency that is no number keeps nothing."""
    summary = {"submitted": 100, "completed": 97, "p95_e2el_ms": 10.0, "p99_e2el_ms": 10.0, "median_e2el_ms": math.nan}
    scores = [Measure((read_percentile(f"{p}:e2el:20"),)).score(summary) for p in ("p95", "p99", "p50")]
    assert scores == [2.0, 0.0, 0.0]
    assert Measure().score({"slo_attainment": 0.5}) == 0.5


@pytest.mark.parametrize("text", ["p90:ttft:5", "p95:x:5", "p95:ttft", "p95:ttft:-1", "p95:ttft:nan", "p95:ttft:x"])
def test_wrong_percentiles_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line that says how to write them."""
    with pytest.raises(SystemExit) as refused:
        command.main([*SMALL, "--percentiles", text])
    said = capsys.readouterr().err
    assert refused.value.code == 2 and "p95:ttft:500" in said and len(said.splitlines()) == 1


def test_the_curve_goes_on_until_it_has_fallen(capsys: pytest.CaptureFixture[str]) -> None:
    """From a rate far below the capacity the curve still ends where no policy keeps the least share."""
    rows = found(capsys, "--rate", "0.3", "--shares", "0.95,0.9")["tables"]["by_rate"]
    assert max(rows[-1]["dynamic"], rows[-1]["multibin"]) < 0.9 and rows[0]["dynamic"] >= 0.95
    fixed = found(capsys, "--rate", "0.3", "--multiples", "1,2")["tables"]["by_rate"]
    assert len(fixed) == 2


def test_searched_caps_carry_no_less() -> None:
    """The cap of the scenario is one of those tried; the note names the chosen pair."""
    scenario = scenario_of("--requests", "400")
    session = Session(None, Crew(1))  # type: ignore[arg-type]
    entrant = Entrant(parse("dynamic"), scenario)
    best = with_best_caps(entrant, session)
    assert scenario.config.max_batch in BATCHES and pairs(scenario) == [(batch, 0.0) for batch in BATCHES]
    rates = [capacity(parse("dynamic"), each, 1).rate for each in (best.scenario, scenario)]
    assert rates[0] >= rates[1] and f"batches of {best.scenario.config.max_batch}" in session.notes[0]
    two = capped(scenario_of("--engine", "continuous", "--requests", "100"), 64, 512.0)
    assert (two.config.max_batch, two.config.continuous.token_budget) == (64, 512.0)
    assert len(pairs(two)) == 25


def test_caps_are_searched_for_what_is_to_be_kept() -> None:
    """Percentiles, or the share that is asked for, not always 95 %: a tighter target carries less."""
    scenario = scenario_of("--requests", "400")
    entrant, rates = Entrant(parse("static:batch=64"), scenario), {}
    goals = {
        "tight": Goal(Measure((read_percentile("p95:e2el:3000"),)).score, 1.0),
        "loose": Goal(Measure((read_percentile("p95:e2el:9000"),)).score, 1.0),
        "half": Goal(bar=0.5),
    }
    for name, goal in goals.items():
        session = Session(None, Crew(1))  # type: ignore[arg-type]
        best = with_best_caps(entrant, session, goal, f"with {name}")
        assert f"requests/s with {name}, the best of 5" in session.notes[0]
        rates[name] = capacity(entrant.policy, best.scenario, 1, goal).rate
        assert rates[name] >= capacity(entrant.policy, scenario, 1, goal).rate
    assert rates["tight"] < rates["loose"] and rates["half"] > capacity(entrant.policy, scenario, 1).rate


def test_the_command_searches_caps_for_percentiles(capsys: pytest.CaptureFixture[str]) -> None:
    """The note says what the caps keep: the percentiles."""
    done = found(capsys, "--percentiles", "p95:e2el:9000", "--search-caps", "--multiples", "1")
    caps = [note for note in done["notes"] if note.startswith("Caps of ")]
    assert len(caps) == 2 and all("requests/s with p95 e2el <= 9000 ms, the best of 5" in note for note in caps)


def rows(*counts: int | None) -> Table:
    """A table of servers needed, a row per policy a, b, c."""
    lines: list[dict[str, Any]] = [
        {"policy": name, "share": 0.95, "servers": n, "gpus": None if n is None else 4 * n}
        | ({} if n is None else {"gpu_hours_a_day": 96.0 * n})
        for name, n in zip("abc", counts, strict=True)
    ]
    return Table("servers", "", [Column("policy", "policy")], lines)


@pytest.mark.parametrize(
    ("counts", "price", "said"),
    [
        ((5, 4, 5), None, "b: 4 servers (16 GPUs) carry it so; a and c need 5."),
        ((1, 2, 3), None, "a: 1 server (4 GPUs) carries it so; b needs 2; c needs 3."),
        ((4, 4, None), 2.5, "a and b: 4 servers (16 GPUs, 960 a day) carry it so; c cannot with any number."),
        ((None, None, None), None, "No number of servers carries it so, under a, b and c: one request alone misses"),
    ],
)
def test_the_sentence(counts: tuple[int | None, ...], price: float | None, said: str) -> None:
    """Fewest servers first, in GPUs and money, then what the others need."""
    assert servers_sentence(rows(*counts), 0.95, "it", "so", price).startswith(said)


def test_rates_in_a_sentence_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The highest first; a target that no request can meet is ``none``, not 0.000 ± 0.000."""
    said = rates_sentence([("a", 1.0), ("b", math.inf), ("c", 0.0)], "2 servers", "so")
    assert said == "On 2 servers, so: b any rate, a 1 requests/s, c no rate."
    assert command.main([*SMALL, "--goodput", "e2el:10"]) == 0
    shown = capsys.readouterr().out
    assert "No number of servers carries" in shown and "0.000 ± 0.000" not in shown and "none: no rate" in shown
