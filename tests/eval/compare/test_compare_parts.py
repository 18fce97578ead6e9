"""The parts of a comparison by themselves: intervals, options, capacity search, table, progress, threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator
from functools import partial

import numpy as np
import pytest

from llmsched.eval.cli.options import parser_for
from llmsched.eval.cli.progress import Progress, duration
from llmsched.eval.report.policy_table import policy_text
from llmsched.eval.report.textual import heading
from llmsched.eval.runs import tune
from llmsched.eval.runs.aggregate import policy_summaries
from llmsched.eval.runs.intervals import interval, paired_interval
from llmsched.eval.runs.outcome import Outcome, Timeline, timeline_of
from llmsched.eval.runs.runner import Cell, SharedArrivals, run_cell, run_tasks
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import OF_2023
from llmsched.policies import parse
from llmsched_env.config import SLO
from llmsched_env.core.layout import ITL_BINS, REJECTED
from llmsched_env.simulation.metrics import KEYS
from llmsched_env.simulation.threshold import RateSearch, run_alone


def scenario_of(*options: str):
    return scenario_from(parser_for("test", "").read([*options]))


def test_interval_by_hand():
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    assert found.half == pytest.approx(2.7764451 * math.sqrt(2.5 / 5))  # t(0.975, 4) s / sqrt(n)


def test_interval_of_one_value_or_of_an_undefined_one_has_no_width():
    assert (interval([2.0]).mean, interval([2.0]).half) == (2.0, None)
    assert math.isnan(interval([1.0, math.nan]).mean) and interval([1.0, math.nan]).half is None
    assert math.isnan(interval([]).mean)


def test_paired_interval_by_hand():
    found = paired_interval({0: 2.0, 1: 4.0, 2: 5.0, 9: 100.0}, {0: 1.0, 1: 2.0, 2: 4.0})  # 1, 2, 1; seed 9: no pair
    assert found.mean == pytest.approx(4 / 3)
    assert found.half == pytest.approx(4.3026527 * math.sqrt(1 / 3) / math.sqrt(3))
    assert not found.excludes_zero
    assert paired_interval({0: 2.0}, {0: 1.0, 5: 7.0}).mean == 1.0
    assert paired_interval({0: 2.0, 1: 3.01}, {0: 1.0, 1: 2.0}).excludes_zero


def outcome(policy: str, seed: int, **values: float) -> Outcome:
    summary: dict = dict.fromkeys(KEYS, 0) | values
    summary["per_bin"] = [{"bin": 0, "submitted": 10, "misses": seed, "miss_rate": seed / 10}]
    summary["per_class"] = []
    return Outcome(policy, seed, summary, np.zeros(ITL_BINS, np.int64))


def test_a_summary_of_an_interrupted_comparison_pairs_the_common_seeds():
    runs = [outcome("a", 1, mean_e2el_ms=5.0), outcome("b", 0, mean_e2el_ms=9.0), outcome("b", 1, mean_e2el_ms=7.0)]
    first, second = policy_summaries(runs, ["a", "b", "c"])
    assert first["policy"] == "a" and first["seeds"] == [1] and second["seeds"] == [0, 1]
    assert second["paired"]["mean_e2el_ms"] == {"difference": 2.0, "ci95": None}
    assert second["per_bin"][0]["submitted"] == 20 and second["per_bin"][0]["miss_rate"] == pytest.approx(0.05)


def test_without_a_run_of_the_first_policy_there_is_no_difference():
    (only,) = policy_summaries([outcome("b", 0)], ["a", "b"])
    assert math.isnan(only["paired"]["slo_attainment"]["difference"])


def test_table_marks_the_best_that_plays_fair_and_brackets_what_chance_explains():
    runs = []
    for seed, wobble in enumerate((0.0, 0.01, -0.01)):
        runs += [
            outcome("a", seed, slo_attainment=0.5 + wobble, mean_e2el_ms=2000.0),
            outcome("b", seed, slo_attainment=0.5 - wobble, mean_e2el_ms=1000.0),
            outcome("oracle-x", seed, slo_attainment=0.9, mean_e2el_ms=500.0),
        ]
    above, below = policy_text(policy_summaries(runs, ["a", "b", "oracle-x"])).split("difference from a")
    rows = {line.split()[0]: line for line in above.splitlines() if line[:1] in "abo" and "±" in line}
    gaps = {line.split()[0]: line for line in below.splitlines() if "±" in line}
    assert "1.00 ± 0.00*" in rows["b"] and "*" not in rows["oracle-x"]
    assert "(+0.0 ± 5.0)" in gaps["b"] and " -1.00 ± 0.00 " in gaps["b"] and " +40.0 ± 2.5 " in gaps["oracle-x"]
    assert above.count("*") == 1  # where all are equal, none is best


def test_long_names_are_shortened_apart_and_spelled_out():
    names = ["static:" + "x" * 60 + "1", "static:" + "x" * 60 + "2"]
    text = policy_text(policy_summaries([outcome(name, 0) for name in names], names))
    assert max(map(len, text.splitlines()[:6])) <= 120
    assert "#1 = " + names[0] in text and "#2 = " + names[1] in text


def test_goodput_is_in_milliseconds_and_classes_have_their_own():
    assert scenario_of("--goodput", "ttft:1500", "tpot:80").config.slos == (SLO(ttft_s=1.5, tpot_s=0.08),)
    slos = scenario_of("--slo-classes", "chat=0.8,ttft:1000", "batch=0.2,e2el:90000").config.slos
    assert slos == (SLO(ttft_s=1.0, share=0.8, name="chat"), SLO(e2e_s=90.0, share=0.2, name="batch"))


def test_bins_are_a_number_or_lower_bounds():
    assert scenario_of("--bins", "(0,64,256,1024)").config.queueing.edges == (64, 256, 1024)
    assert len(scenario_of("--bins", "7").config.queueing.edges) == 6
    assert scenario_of("--predictor", "none").config.queueing.edges == ()


def test_controller_keys_are_in_milliseconds():
    controller = scenario_of("--controller", "peer:tbt=40,eps=1,alpha=8,b-min=2").config.controller
    assert (controller.kind, controller.tbt_s, controller.eps_s) == ("peer", 0.04, 0.001)
    assert (controller.alpha, controller.b_min) == (8.0, 2)


def test_edges_and_arrivals_of_a_seed_do_not_depend_on_the_first_seed():
    one, other = scenario_of("--seed", "0"), scenario_of("--seed", "3")
    assert one.config == other.config
    assert np.array_equal(one.draw(3).arrival_s, other.draw(3).arrival_s)


def test_servers_follow_a_profile_that_counts_them():
    mixed = scenario_of("--profile", "h100-80gb_llama2-70b_tp4:1,h100-80gb_llama2-70b_tp8:2")
    assert len(mixed.config.servers) == 3 and mixed.gpus == 20


def test_arrivals_are_drawn_once_for_all_policies_and_given_back():
    scenario = scenario_of("--requests", "50")
    cells = [Cell(name, parse(name), scenario, seed) for seed in (0, 1) for name in ("static", "dynamic")]
    shared = SharedArrivals(cells)
    first, second, third, fourth = (shared.take(cell) for cell in cells)
    assert first is second and third is fourth and first is not third
    assert not shared._drawn


def test_threads_give_every_result_and_raise_what_a_run_raised():
    assert sorted(run_tasks([partial(int, i) for i in range(50)], 4)) == list(range(50))

    def broken() -> int:
        raise ValueError("this run failed")

    with pytest.raises(ValueError, match="this run failed"):
        list(run_tasks([lambda: 1, broken, lambda: 2], 2))


def test_nothing_is_waited_for_when_the_listener_stops():
    gate = threading.Event()
    results = run_tasks([lambda: 0, lambda: gate.wait(20), lambda: gate.wait(20)], 2)
    assert next(results) == 0
    began = time.monotonic()
    assert isinstance(results, Generator)
    results.close()
    waited = time.monotonic() - began
    gate.set()
    assert waited < 5


@pytest.mark.parametrize("true", [0.011, 1.7, 523.0])
def test_capacity_search_finds_the_highest_rate(true):
    search = RateSearch(2.5, tune.RATE_TOLERANCE)
    run_alone(search, lambda rate: rate <= true)
    assert true / (1 + tune.RATE_TOLERANCE) <= tune._rate_found(search, "static", "") <= true


@pytest.mark.parametrize(("answer", "said"), [(True, "unbounded; tighten"), (False, "no capacity; loosen")])
@pytest.mark.parametrize(("or_give", "ends"), [("", "--goodput."), (", or give --rate", "--goodput, or give --rate.")])
def test_capacity_search_without_an_end_is_refused(answer, said, or_give, ends):
    """Only a command that takes --rate names it."""
    search = RateSearch(2.5, tune.RATE_TOLERANCE)
    run_alone(search, lambda rate: answer)
    with pytest.raises(ValueError, match=said) as caught:
        tune._rate_found(search, "static", or_give)
    assert str(caught.value).endswith(ends)


def test_capacity_keeps_95_percent_and_a_little_more_does_not():
    scenario = scenario_of(*OF_2023, "--requests", "2000")
    found = tune.capacity(parse("static:batch=16"), scenario, 1)
    below, above = (
        tune.scores([(parse("static:batch=16"), scenario.at_rate(rate))], 1, "")[0].attainment
        for rate in (found.rate, found.rate * (1 + tune.RATE_TOLERANCE))
    )
    assert below >= tune.CAPACITY_ATTAINMENT > above
    assert found.policy == "static:batch=16"


def test_auto_takes_the_best_of_the_grid_on_the_validation_seeds():
    scenario = scenario_of("--requests", "2000")
    (entrant,) = tune.resolve([parse("static:batch=auto")], scenario, 2)
    grid = [parse("static").with_params(batch=batch) for batch in parse("static:batch=auto").autos["batch"]]
    marks = tune.scores([(bound, scenario) for bound in grid], 1, "")
    best = max(range(len(grid)), key=lambda row: marks[row].order)
    assert entrant.policy.values["batch"] == grid[best].values["batch"] and entrant.label == "static:batch=auto"
    assert grid[best].text in entrant.choice and "validation seeds" in entrant.choice


def test_auto_target_between_tokens_is_chosen_for_who_reads_it():
    scenario = scenario_of(*OF_2023, "--requests", "2000", "--controller", "paper:tbt=auto")
    static, dynamic = tune.resolve([parse("static"), parse("dynamic")], scenario, 2)
    assert static.choice == "" and "tbt=" in dynamic.choice
    assert dynamic.scenario.config.controller.tbt_s is not None


def test_choices_never_see_the_arrivals_that_are_scored(monkeypatch):
    scenario, splits, draw = scenario_of("--requests", "100"), set(), Scenario.draw

    def noted(self: Scenario, seed: int, split: str = "test"):
        splits.add(split)
        return draw(self, seed, split)

    monkeypatch.setattr(Scenario, "draw", noted)
    tune.resolve([parse("static:batch=auto")], scenario, 2)
    tune.capacity(parse("static"), scenario, 2)
    assert splits == {"validation"}
    assert not np.array_equal(scenario.draw(0).arrival_s, scenario.draw(0, "validation").arrival_s)


def test_timeline_counts_the_waiting_and_the_running():
    scenario = scenario_of("--requests", "400", "--kv-tokens", "2000")
    result = run_cell(Cell("static", parse("static"), scenario, 0, timeline=True), scenario.draw(0))
    line: Timeline = timeline_of(result, 50)
    start = float(result.requests["arrival"].min())
    turned_away = result.requests["status"] == REJECTED
    assert turned_away.any()
    for now, waiting, batch in zip(line.time_s + start, line.waiting, line.batch, strict=True):
        rows = result.requests
        assert waiting == np.sum((rows["arrival"] <= now) & ~(rows["dispatch"] <= now) & ~turned_away)
        running = result.batches[(result.batches["start"] <= now) & (result.batches["end"] > now)]
        assert batch == pytest.approx(running["size"].mean() if len(running) else 0.0)


def test_progress_is_shown_at_a_terminal_only(capsys, monkeypatch):
    monkeypatch.setattr("llmsched.eval.cli.progress.QUIET_S", 0.0)
    for live, shown in ((False, False), (True, True)):
        monkeypatch.setattr("sys.stderr.isatty", lambda live=live: live, raising=False)
        with Progress("comparing", 3) as progress:
            progress.step("static, seed 0")
            progress.step("static, seed 1")
        err = capsys.readouterr().err
        assert ("comparing: 1 of 3  static" in err and "comparing: 2 of 3, 0 s left" in err) == shown
        assert err.endswith("\r") == shown  # the line is wiped


def test_durations_in_words():
    assert [duration(s) for s in (8.2, 200, 7500)] == ["8 s", "3 min 20 s", "2 h 5 min"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "batches to 128, released at the end of the batch"),
        (["--release", "own"], "batches to 128, released at their own last token"),
        (["--engine", "continuous"], "running sets to 1024, released at their own last token"),
    ],
)
def test_heading_says_who_waits_for_whom(arguments, said):
    scenario = scenario_from(parser_for("compare.py", "").read(["--bins", "1", *arguments]))
    text = " ".join(heading(scenario, [0]).split())
    assert said in text and "; 1 bin [0, inf);" in text
