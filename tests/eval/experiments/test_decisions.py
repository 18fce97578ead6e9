"""What policies decide: recordings are the runs themselves, changed records stay consistent, figures and tables."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest

from llmsched.eval import decisions
from llmsched.eval.experiments.decisions import grid as decision_grid
from llmsched.eval.experiments.decisions.experiment import decision_run, groups_of, wait_shares
from llmsched.eval.experiments.decisions.grid import (
    ANY,
    MOST_LENGTHS,
    NEVER,
    WAIT,
    answers,
    axes_of,
    facts_of,
    map_of,
    place_records,
    sample_decisions,
)
from llmsched.eval.figures import decisions as decision_figures
from llmsched.eval.runs.recording import Recording, batch_weights, bin_names, record_run, sharing_of
from llmsched.eval.runs.runner import Cell, SharedArrivals, run_cell
from llmsched.eval.scenarios.variants import OF_2023, scenario_of
from llmsched.policies import parse
from llmsched_env.config import Queueing
from llmsched_env.simulation.metrics import summarize


def cell_of(policy: str, *words: str, seed: int = 1) -> Cell:
    return Cell(policy, parse(policy), scenario_of(*OF_2023, "--requests", "600", *words), seed)


def recording_of(policy: str, *words: str) -> Recording:
    cell = cell_of(policy, *words)
    return record_run(cell, cell.scenario.draw(cell.seed), keep=True)


@pytest.mark.parametrize("policy", ["network", "timeout:batch=32:wait=2000", "adaptive-memory", "random"])
def test_a_recording_is_the_run_of_the_other_experiments(policy):
    """To the bit, with a record for every decision."""
    cell = cell_of(policy)
    found = record_run(cell, cell.scenario.draw(cell.seed), keep=True)
    plain = run_cell(dataclasses.replace(cell, timeline=True), SharedArrivals([cell]).take(cell))
    assert found.result.requests.tobytes() == plain.requests.tobytes()
    assert found.result.batches.tobytes() == plain.batches.tobytes()
    assert len(found.records) == len(found.waited) == len(found.memories) == int(plain.counts["decisions"])
    assert int(found.waited.sum()) == int(plain.counts["waits"])
    assert (found.free == found.records["free_servers"]).all() and found.free.min() >= 1
    assert np.all(np.diff(found.records["now"]) >= 0)


@pytest.mark.parametrize("policy", ["network", "longest-queue", "adaptive-memory", "timeout:batch=32:wait=2000"])
def test_asked_again_a_policy_answers_what_it_did(policy):
    """Record and memory are those before the decision."""
    found = recording_of(policy)
    bins = found.result.config.queueing.num_bins
    again = answers(parse(policy).ready(found.result.config), found.records, found.memories)
    assert ((again[:, 0] == WAIT) == found.waited).all()
    launched = again[~found.waited]
    log = found.result.batches
    meant = np.where(launched[:, 0] == ANY, bins, np.where(launched[:, 0] == bins, bins + 1, launched[:, 0]))
    assert (meant == log["choice"]).all()
    assert (launched[:, 1] == log["size"]).mean() > 0.95  # memory may cut one short, and requests that become overdue


@pytest.mark.parametrize("words", [(), ("--servers", "2"), ("--bins", "8", "--servers", "6")])
def test_a_record_put_where_it_was_stays_what_it_was(words):
    found = recording_of("network", *words)
    world = facts_of(found)
    for k in range(found.result.config.queueing.num_bins):
        for i in sample_decisions(found, k)[:6]:
            before = found.records[i : i + 1]
            length, slack = int(before["queue_length"][0, k]), float(before["slack"][0, k])
            after, possible = place_records(before, k, length, slack, 1e-6, world)
            assert possible.all()
            for name in before.dtype.names or ():
                np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_what_follows_from_length_and_slack_is_set_too():
    found = recording_of("network")
    world, k = facts_of(found), 3
    before = found.records[sample_decisions(found, k)]
    after, possible = place_records(before, k, 20, -10.0, 0.0, world)
    assert possible.mean() > 0.8  # elsewhere the head would not have arrived yet
    before, after = before[possible], after[possible]
    now, any_ = after["now"], int(after["num_bins"][0])
    assert (after["head_arrival"][:, k] <= now + 1e-9).all()
    assert (after["queue_length"][:, k] == 20).all() and np.allclose(after["slack"][:, k], -10.0)
    for choice in (k, any_):
        slack = after["head_deadline"][:, choice] - now - after["batch_time"][:, choice]
        assert np.allclose(slack, after["slack"][:, choice])
        assert np.allclose(after["head_deadline"][:, choice] - after["head_arrival"][:, choice], 30.0)
    longer = np.minimum(before["queue_length"][:, k], before["target"][:, k]) < np.minimum(20, after["target"][:, k])
    assert (after["batch_time"][longer, k] > before["batch_time"][longer, k]).all()
    in_bins, overdue = after["queue_length"][:, :any_].sum(axis=1), after["queue_length"][:, any_ + 1]
    assert (after["queue_length"][:, any_] == in_bins).all() and (after["waiting"] == in_bins + overdue).all()
    assert (overdue > 0).any()
    heads = after["head_arrival"][:, :any_].min(axis=1)
    assert np.allclose(after["head_arrival"][:, any_], heads) and np.allclose(after["oldest_arrival"], heads)
    arrivals = found.result.requests["arrival"]
    for row in after:
        held = np.flatnonzero(row["queue_length"][:any_])
        old, number = row["head_arrival"][held], row["head_number"][held]
        assert (np.diff(number[np.argsort(old)]) >= 0).all()  # before the first arrival all are number 0
        assert row["head_number"][k] == (arrivals < row["head_arrival"][k] - 1e-6).sum()
    other = [j for j in range(any_) if j != k]
    assert (after["slack"][:, other] == before["slack"][:, other]).all()
    assert not place_records(before, k, 32, 29.9, 0.0, world)[1].any()  # such a head has not arrived yet


def test_the_map_of_a_rule_is_the_rule():
    """longest-queue serves a bin that is longer than all others, whatever its slack, at its target."""
    found = recording_of("longest-queue")
    axes = axes_of([found], 30.0)
    shown = map_of(parse("longest-queue"), found, 0, axes)
    assert len(axes.lengths) <= MOST_LENGTHS and axes.slacks[0] < 30.0
    assert shown.choice.shape == (len(axes.slacks), len(axes.lengths)) == shown.visited.shape
    possible = shown.choice[:, -1] != NEVER
    assert possible.any() and (shown.choice[possible, -1] == 0).all()
    longest = found.records["queue_length"][:, 1:4].max(axis=1)[sample_decisions(found, 0)]
    for x, length in enumerate(axes.lengths):
        sure = np.mean(longest < length), np.mean(longest <= length)
        of_bin = np.where(shown.choice[:, x] == 0, shown.share[:, x], 1 - shown.share[:, x])
        if shown.choice[-1, x] == 0:
            assert sure[0] - 1e-9 <= of_bin[-1] <= sure[1] + 1e-9
    assert shown.visited.any() and (found.records["queue_length"][:, 0] > 0).any()


def test_waiting_is_seen_and_bins_of_any_are_told_apart():
    found = recording_of("timeout:batch=64:wait=3000")
    shown = map_of(parse("timeout:batch=64:wait=3000"), found, 1, axes_of([found], 30.0))
    assert {ANY, WAIT} <= set(shown.choice.ravel().tolist()) <= {ANY, WAIT, NEVER}
    weights = batch_weights(found.result)
    assert np.allclose(weights.sum(axis=1), 1.0) and ((weights > 0).sum(axis=1) > 1).any()
    share = wait_shares([[decision_run(found)]], groups_of(4)[1])
    assert np.nansum(share) > 0
    asked = [(found.free == free).sum() for free in range(1, 5)]
    assert np.nansum(share[:, 0] * asked) == pytest.approx(found.waited.sum())


def test_sharing_adds_up():
    result = recording_of("network").result
    found = sharing_of(result)
    assert found.time.sum() == pytest.approx(summarize(result)["gpu_utilization"], rel=0.02)
    own = result.batches[result.batches["choice"] == 2]
    assert found.batch[2] == pytest.approx(own["size"].mean())
    assert found.time[2] == pytest.approx((own["end"] - own["start"]).sum() / float(result.lane["now"]) / 4)
    by_bin = [row["miss_rate"] for row in summarize(result)["per_bin"]]
    assert found.missed.tolist() == pytest.approx(by_bin, nan_ok=True)


def test_names_follow_the_number_of_bins():
    config = scenario_of("--bins", "(0,64,256)").config
    assert bin_names(config) == ["0 to 63", "64 to 255", "256 and more"]
    assert bin_names(dataclasses.replace(config, queueing=Queueing())) == ["all"]
    with_overdue = dataclasses.replace(config, queueing=Queueing((64,), overdue_factor=2.0))
    assert bin_names(with_overdue) == ["0 to 63", "64 and more", "overdue"]
    choices = decision_figures.legend_of([["a", "b"], bin_names(with_overdue)])
    assert choices.bins == 3 and choices.colours[2] == decision_figures.DARK
    assert choices.names[ANY] == "any" and choices.names[WAIT] == "wait"


def test_free_servers_are_grouped():
    names, group = groups_of(4)
    assert names == ["1", "2", "3", "4"] and group.tolist() == [0, 0, 1, 2, 3]
    names, group = groups_of(20)
    assert names[0] == "1 to 3" and names[-1] == "19 to 20" and len(names) == 7 and group[20] == 6


def test_the_command_prints_and_keeps(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(decision_grid, "SAMPLE", 4)
    words = ["--requests", "300", "--seeds", "2", "--loads", "0.8,1.4", "--policies", "network,timeout:wait=2000"]
    assert decisions.main([*words, "--out", str(tmp_path), "--report", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert err == "" and max(len(line) for line in out.splitlines()) <= 120
    for name in ("maps", "waits", "sharing"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    tables = json.loads((tmp_path / "summary.json").read_text())["tables"]
    assert len(tables["time"]) == len(tables["mix"]) == 4
    for row in tables["mix"]:
        assert 0.0 <= row["busy"] <= 1.0 and (row["waits"] > 0) == row["policy"].startswith("timeout")
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and sorted({round(float(row["load"]), 6) for row in rows}) == [0.8, 1.4]
    own = [row for row in rows if row["policy"] == "network" and math.isclose(float(row["load"]), 1.4)]
    missed = 1 - np.mean([float(row["slo_attainment"]) for row in own])
    assert tables["missed"][1]["bin0"] <= missed + 0.5 and len(own) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "2"], "give --load and --loads"),
        (["--engine", "continuous", "--policies", "sarathi"], "give batch"),
        (["--goodput", "tpot:100"], "no slack to show"),
        (["--loads", "0"], "--loads"),
        (["--policies", "longest"], "longest-queue"),
    ],
)
def test_bad_input_is_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        decisions.main(["--requests", "50", "--seeds", "1", *words])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("decisions.py: error: ") and said in err, err
