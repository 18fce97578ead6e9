"""The search in hindsight: against all decision sequences of tiny traces, replays to the bit, shares by hand."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval import hindsight
from llmsched.eval.best_possible.plan_search import PlanScore, TraceSimulation
from llmsched.eval.best_possible.plan_store import PlanSearch, search_plans
from llmsched.eval.best_possible.plans import Plan, decisions_of, plan_policy
from llmsched.eval.experiments.benchmark import statistics
from llmsched.eval.experiments.hindsight.tables import (
    CaseLoad,
    bars,
    by_gap,
    closed_share,
    fixed_best,
    share_of_gap,
)
from llmsched.eval.runs.runner import Cell, run_cell
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.eval.scenarios.variants import OF_2023, scenario_of
from llmsched.policies import parse, parse_list
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.profiles import load_profile
from llmsched_env.requests import Requests
from llmsched_env.simulation.simulator import simulate

EVERY = [(2.0, 0.0), *itertools.product((0.0, 1.0, 2.0), (1.0, 2.0))]
"""All decisions of a system with two bins and batches to 2: wait, and one or two from either bin or any."""

TINY = SimConfig(
    servers=(Server(load_profile("synthetic")),),
    queueing=Queueing(edges=(1000,)),
    max_batch=2,
    slos=(SLO(e2e_s=0.75),),
)


def tiny(seed: int) -> Requests:
    """Five requests of 0.1 to 0.4 s, of which one server cannot serve all in time."""
    rng = np.random.default_rng(seed)
    output = rng.integers(400, 2000, 5).astype(np.int32)
    predicted = np.round(output * np.exp(0.3 * rng.standard_normal(5))).astype(np.int32)
    return Requests(np.sort(rng.uniform(0, 0.5, 5)), np.full(5, 100, np.int32), output, predicted, np.zeros(5, np.int8))


def optimum(trace: TraceSimulation) -> tuple[PlanScore, int]:
    """The best of all sequences of decisions, one after the other, and how many there are.

    A sequence is cut where its run ends, then its last decision is turned on; one that is too short grows.
    """
    best, tried, digits = PlanScore(99, 99.0), 0, [0] * 12
    while True:
        found = trace.judge(np.array([EVERY[digit] for digit in digits]))
        assert found.decisions <= len(digits)
        tried += 1
        best = min(best, found, key=lambda verdict: verdict.order)
        digits = digits[: found.decisions]
        while digits and digits[-1] == len(EVERY) - 1:
            digits.pop()
        if not digits:
            return best, tried
        digits[-1] += 1
        digits += [0] * (12 - len(digits))


@pytest.mark.parametrize(("order", "seed"), [("fifo", 0), ("sjf", 1), ("fifo", 2), ("sjf", 3)])
def test_the_search_reaches_the_best_of_all_sequences(order: str, seed: int) -> None:
    """Fewest misses and, of those, least mean latency; from a bad start."""
    trace = TraceSimulation(TINY, order, tiny(seed))
    best, tried = optimum(trace)
    start = np.tile((2.0, 1.0), (5, 1))
    assert tried > 1000 and best.order < trace.judge(start).order
    found = trace.judge(trace.improve(start, 4000, np.random.default_rng(seed)))
    assert (found.missed, found.latency) == pytest.approx(best.order, abs=1e-12)


def short(servers: int = 4, requests: int = 150) -> Scenario:
    """The scenario of the experiment under too much load."""
    rate = str(0.9 * servers)
    return scenario_of(*OF_2023, "--servers", str(servers), "--rate", rate, "--requests", str(requests))


@pytest.mark.parametrize("name", ["longest-queue", "weighted-queue", "sjf:batch=16", "multibin", "network", "random"])
def test_a_replay_of_noted_decisions_is_the_same_run(name: str) -> None:
    """To the bit: every stamp of every request, and every batch."""
    scenario, policy = short(), parse(name)
    cell = Cell(name, policy, scenario, 3, timeline=True)
    requests = scenario.draw(3)
    plan = decisions_of(cell, requests)
    queueing = policy.configure(scenario.config).queueing
    same = dataclasses.replace(scenario, config=dataclasses.replace(scenario.config, queueing=queueing))
    again = dataclasses.replace(cell, policy=plan_policy("plan", plan, queueing.discipline), scenario=same)
    first, second = run_cell(cell, requests), run_cell(again, requests)
    assert first.counts["decisions"] == len(plan)
    assert first.requests.tobytes() == second.requests.tobytes()
    assert first.batches.tobytes() == second.batches.tobytes()


def test_a_trace_judges_as_the_simulator_does() -> None:
    """Misses, mean latency and decisions of a plan, whatever was judged before."""
    scenario = short(1)
    requests = scenario.draw(5)
    plan = decisions_of(Cell("", parse("sjf:batch=16"), scenario, 5), requests)
    trace = TraceSimulation(scenario.config, "sjf", requests)
    trace.judge(np.tile((4.0, 1.0), (9, 1)))
    found, ready = trace.judge(plan), plan_policy("plan", plan, "sjf").ready(scenario.config)
    rows = simulate(ready.config, requests, ready.decide, **ready.options).requests
    took = rows["completion"] - rows["arrival"]
    assert found.missed == np.sum(~(took <= 30.0)) > 0 and found.decisions == len(plan)
    assert found.latency == pytest.approx(np.mean(np.minimum(took / 30.0, 10.0)))


@pytest.mark.parametrize("trials", [1, 300])
def test_a_search_is_never_worse_than_its_starts_and_repeats(trials: int) -> None:
    """Each heuristic in its own order is among the starts; the same seed finds the same plan again."""
    scenario = short(1)
    starts = parse_list("static:batch=16,longest-queue,multibin,sjf:batch=16,sjf:batch=32")
    search = PlanSearch(scenario, starts, ("fifo", "sjf"), trials)
    for seed in (11, 12, 13):
        requests = scenario.draw(seed)
        order, plan = search.best_plan(seed)
        best = TraceSimulation(scenario.config, order, requests).judge(plan).order
        for start in starts:
            own = start.configure(scenario.config).queueing.discipline
            there = TraceSimulation(scenario.config, own, requests).judge(
                decisions_of(Cell("", start, scenario, seed), requests)
            )
            assert best <= there.order
    again = search.best_plan(13)
    assert again[0] == order and np.array_equal(again[1], plan)
    assert TraceSimulation(scenario.config, order, requests).judge(plan).decisions == len(plan)


def test_a_few_trials_never_lose_the_start() -> None:
    """Most single changes of a good plan are for the worse: then it comes back itself."""
    scenario = short(1)
    requests = scenario.draw(11)
    trace = TraceSimulation(scenario.config, "sjf", requests)
    start = decisions_of(Cell("", parse("sjf:batch=16"), scenario, 11), requests)
    for seed in range(30):
        assert trace.judge(trace.improve(start, 1, np.random.default_rng(seed))).order <= trace.judge(start).order


def test_other_targets_are_refused() -> None:
    config = dataclasses.replace(TINY, slos=(SLO(e2e_s=1.0, ttft_s=0.5),))
    with pytest.raises(ValueError, match="an E2E target alone"):
        TraceSimulation(config, "fifo", tiny(0))


def test_found_plans_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second search takes them from the folder, one of another size does not; a line cut off is made again."""
    search = PlanSearch(short(1, 40), parse_list("sjf:batch=8"), ("fifo",), 50)
    first = search_plans(search, (1, 2), 1, tmp_path, "")
    file = tmp_path / "plans.jsonl"
    made: list[int] = []
    found = PlanSearch.best_plan

    def counted(self: PlanSearch, seed: int) -> tuple[str, Plan]:
        made.append(seed)
        return found(self, seed)

    monkeypatch.setattr(PlanSearch, "best_plan", counted)
    second = search_plans(search, (1, 2), 1, tmp_path, "")
    plans = [[plan.ready(search.scenario.config).params for plan in plans] for plans in (first, second)]
    assert made == [] and all(map(np.array_equal, *plans))
    file.write_text(file.read_text()[:-30])
    search_plans(search, (1, 2), 1, tmp_path, "")
    assert made == [2]
    search_plans(dataclasses.replace(search, trials=51), (1,), 1, tmp_path, "")
    assert made == [2, 1]


# ---- what is made of it


def group(own: list[int], found: list[int], **rivals: list[int]) -> CaseLoad:
    """A group of a case."""
    return CaseLoad("case", 1.0, 1.0, {k: np.array(v) for k, v in rivals.items()}, np.array(own), np.array(found))


def test_shares_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only traces with a gap count: to the best of each, and to one for all."""
    monkeypatch.setattr(statistics, "RESAMPLES", 50)
    one = group([8, 5, 0], [4, 5, 0], a=[10, 5, 9], b=[12, 6, 0])
    two = group([9], [1], a=[9], b=[5])
    assert one.best.tolist() == [10, 5, 0] and fixed_best([one]) == "b" and fixed_best([one, two]) == "b"
    assert closed_share([one], [one.best], 0).value == pytest.approx(2 / 6)
    assert closed_share([one, two], [one.best, two.best], 0).value == pytest.approx((2 - 4) / (6 + 4))
    assert share_of_gap([(np.array([2.0]), np.array([6.0])), (np.array([1.0, 0.0]), np.array([1.0, 2.0]))]) == 3 / 9
    per_trace, per_group, for_all = bars([one, two], "network", 20, 0).rows
    assert (per_trace["gaps"], per_trace["closed"], per_trace["met"]) == (2, pytest.approx(-0.2), "NO")
    assert per_trace["theirs"] == pytest.approx((10 + 5) / 2 / 20) and per_trace["found"] == pytest.approx(2.5 / 20)
    assert per_group["closed"] == for_all["closed"] == pytest.approx((4 + 1 - 4) / (8 + 1 + 4))
    assert for_all["rival"] == "one for all: b" and for_all["gaps"] == 3
    rows = by_gap([one, group([1], [1], a=[1])], 0).rows
    assert rows[0]["best_gaps"] == 1 and rows[1]["best_gaps"] == 0 and np.isnan(rows[1]["best_closed"])  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables within 120 columns, files, the search below every policy; a second start makes nothing anew."""
    monkeypatch.setattr("llmsched.eval.experiments.hindsight.experiment.UNIT_REQUESTS", 400)
    monkeypatch.setattr(statistics, "RESAMPLES", 50)
    words = ["--cases", "1 server", "--loads", "1.6", "--seeds", "3", "--requests", "60", "--trials", "200"]
    words += ["--heuristics", "static:batch=16,sjf:batch=16,longest-queue", "--out", str(tmp_path)]
    assert hindsight.main(words) == 0
    first = capsys.readouterr().out
    assert "The gap to a search in hindsight" in first and max(map(len, first.splitlines())) <= 120
    missed: dict[str, list[float]] = {}
    for row in csv.DictReader((tmp_path / "results.csv").open()):
        missed.setdefault(row["policy"], []).append(60 * (1 - float(row["slo_attainment"])))
    assert set(missed) == {"static:batch=16", "sjf:batch=16", "longest-queue", "network", "search"}
    best = np.min([missed[name] for name in ("static:batch=16", "sjf:batch=16", "longest-queue")], axis=0)
    assert np.all(np.array(missed["search"]) <= best) and np.any(np.array(missed["search"]) < best)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["tables"]["bars"][0]["gaps"] == int(np.sum(np.round(missed["search"]) < np.round(best)))
    assert (tmp_path / "figures" / "hindsight.png").exists() and (tmp_path / "gaps.csv").exists()
    monkeypatch.setattr("llmsched.eval.best_possible.plan_store.PlanSearch.best_plan", None)
    assert hindsight.main(words) == 0 and capsys.readouterr().out == first


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        hindsight.main(["--cases", "5 servers"])
    assert caught.value.code == 2 and "is not known. Choose from 4 servers; " in capsys.readouterr().err
