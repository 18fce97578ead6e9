"""The runs: same requests for all, in turn, resumable, repeated where the machine was not quiet; then predicted."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval.reality.carry_over import measuring, quiet
from llmsched.eval.reality.carry_over.agreement import ranks, relative_error
from llmsched.eval.reality.carry_over.measuring import Run, capacity_of, counted, measure, settled
from llmsched.eval.reality.carry_over.plan import Plan
from llmsched.eval.reality.carry_over.prediction import client_offset_s
from llmsched.eval.reality.carry_over.quiet import MOST_SHARE, TRIES, Disturbance, ProcessorTimes, disturbance
from llmsched.eval.reality.carry_over.result import read, result_of, write
from llmsched.eval.reality.serving.client import Served
from llmsched.eval.reality.steps.profile import fit_steps
from llmsched.eval.reality.steps.reading import LoggedServer, RequestTimes
from llmsched.eval.runs.line_store import LineStore
from tests.reality.carry_over.tools import OFFSET_S, PLAN, POLICIES, TRUTH, FakeFleet

CALM, LOUD = Disturbance(0.01, 0.0, 1.0), Disturbance(0.2, 0.1, 1.0)


def test_all_policies_of_a_block_get_the_same_requests_and_begin_in_turn() -> None:
    """And another repeat gets others."""
    plan = Plan(("a", "b", "c"), (0.7, 0.9), 2)
    assert plan.blocks() == [(0, 0.7), (0, 0.9), (1, 0.7), (1, 0.9)]
    assert [plan.order(k)[0] for k in range(4)] == ["a", "b", "c", "a"] and set(plan.order(1)) == {"a", "b", "c"}
    one, same, other = plan.draw(5.0, 0), plan.draw(5.0, 0), plan.draw(5.0, 1)
    assert np.array_equal(one.prompt_tokens, same.prompt_tokens) and len(one) == plan.requests
    assert not np.array_equal(one.prompt_tokens, other.prompt_tokens)
    faster = plan.draw(10.0, 0)
    assert np.array_equal(one.output_tokens, faster.output_tokens)
    assert faster.arrival_s[-1] == pytest.approx(one.arrival_s[-1] / 2)
    assert plan.edges[0] == 0 and list(plan.edges) == sorted(set(plan.edges))


def test_a_plan_is_named_by_all_that_it_depends_on() -> None:
    """Targets, requests, words of the server, the run."""
    keys = {PLAN.key("x"), PLAN.key("y"), Plan(POLICIES).key("x"), Plan(POLICIES, server_words="--other").key("x")}
    assert len(keys) == 4 and PLAN.key("x") == PLAN.key("x")


def test_targets_are_multiples_of_a_full_step_where_none_are_given() -> None:
    """Those that are given stay."""
    step = TRUTH.decode_step_ms(16, 16 * 160.0)
    found = dict(Plan(POLICIES).with_targets(TRUTH).slo)
    assert found == {"ttft": round(25 * step, 1), "tpot": round(3 * step, 2)}
    assert dict(Plan(POLICIES, slo=(("tpot", 9.0),)).with_targets(TRUTH).slo) == {"ttft": found["ttft"], "tpot": 9.0}
    (slo,) = PLAN.slos
    assert (slo.ttft_s, slo.tpot_s) == (0.3, 0.04)


def test_capacity_is_of_the_middle_of_the_completions() -> None:
    """Ten a second, whatever the first and the last do."""
    rows = [Served(0.0, 0.0, 0.1, 1.0 + k / 10) for k in range(100)]
    rows[0].last, rows[-1].last = 0.5, 60.0
    assert capacity_of(rows) == pytest.approx(10.0)
    with pytest.raises(ValueError, match="95 of 100 requests failed"):
        capacity_of([Served(0.0, error="timeout")] * 95 + rows[:5])


def test_the_rule_of_a_quiet_machine(tmp_path: Path) -> None:
    """Other programs and steal against MOST_SHARE of a core; ours do not count."""
    before, after = ProcessorTimes(100.0, 1.0, 50.0), ProcessorTimes(115.0, 1.1, 60.0)
    found = disturbance(before, after, 10.0)
    assert found is not None and found.own == pytest.approx(1.0) and found.stolen == pytest.approx(0.01)
    assert found.others == pytest.approx(0.49, abs=0.01) and not found.quiet
    calm = disturbance(before, ProcessorTimes(110.3, 1.1, 60.0), 10.0)
    assert calm is not None and calm.quiet
    assert disturbance(None, after, 10.0) is None
    assert Disturbance(MOST_SHARE, 0.0, 2.0).quiet and not Disturbance(MOST_SHARE, 0.001, 2.0).quiet


def test_processes_of_our_sessions_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the session of each; a name with brackets and blanks does not mislead."""
    monkeypatch.setattr(quiet, "busy_and_stolen_s", lambda: (50.0, 0.5))
    for pid, session, ticks in ((10, 7, 100), (11, 8, 1000), (12, 7, 300)):
        (tmp_path / str(pid)).mkdir()
        fields = ["S", "1", "1", str(session), *["0"] * 7, str(ticks), str(ticks), *["0"] * 20]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) {' '.join(fields)}\n")
    (tmp_path / "13").mkdir()
    found = quiet.read_times([7, 0], tmp_path)
    monkeypatch.setattr(quiet.os, "sysconf", lambda _: 100)
    assert found is not None and quiet.read_times([7, 0], tmp_path) == ProcessorTimes(50.0, 0.5, 8.0)


def run_of(what: Disturbance | None, attempt: int = 0) -> Run:
    """A run with nothing in it."""
    return Run("a", 0.7, 0, attempt, [], LoggedServer(), what, [], "")


def test_a_disturbed_run_is_made_again_a_few_times() -> None:
    """The quietest try counts."""
    assert not settled([]) and settled([run_of(CALM)]) and not settled([run_of(LOUD)])
    assert settled([run_of(LOUD), run_of(CALM)]) and settled([run_of(LOUD)] * TRIES) and settled([run_of(None)])
    tries = [run_of(LOUD), run_of(CALM, 1), run_of(Disturbance(0.3, 0.0, 1.0), 2)]
    assert counted(tries).attempt == 1


def test_the_offset_is_what_the_client_sees_later() -> None:
    """By means; unknown where a request failed."""
    rows = [Served(1.0, 1.0, 1.5, 2.0), Served(2.0, 2.0, 2.3, 2.4)]
    inside = [RequestTimes(100.0, 100.45, 101.0), RequestTimes(101.0, 101.2, 101.3)]
    assert client_offset_s(rows, inside) == pytest.approx(0.4 - 0.325)
    assert np.isnan(client_offset_s(rows, inside[:1]))
    rows[0].error = "timeout"
    assert np.isnan(client_offset_s(rows, inside))


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> list[Disturbance]:
    """A machine whose disturbances are those of the list, then none."""
    ahead: list[Disturbance] = []
    monkeypatch.setattr(measuring, "disturbance", lambda *_: ahead.pop(0) if ahead else CALM)
    monkeypatch.setattr(measuring, "PAUSE_S", 0.0)
    monkeypatch.setattr(measuring, "fit_steps", partial(fit_steps, forms=("affine",)))  # the others take seconds
    return ahead


def done(folder: Path, fleet: Any) -> dict[str, Any]:
    """The result of the experiment with a fleet, in a folder."""
    plan, found, runs = measure(PLAN, fleet, LineStore(folder / "runs.jsonl"), folder)
    document = result_of(plan, found, runs, folder)
    write(folder / "carry_over.json", document)
    return read(folder / "carry_over.json")


def test_a_server_of_a_known_law_is_predicted(tmp_path: Path, calm: list[Disturbance]) -> None:
    """The law comes from its steps, the offset from its requests: latencies within 3 %, every order the same.

    A machine that is slower under one policy is predicted with the run's own speed.
    """
    calm += [LOUD]
    fleet = FakeFleet(PLAN, slow={"network": 1.1})
    document = done(tmp_path, fleet)
    assert len(document["runs"]) == 3 * 2 * 3 and len(document["discarded"]) == 1
    assert fleet.asked.count("network") == 6 and len(fleet.asked) == 2 + 18 + 1
    for load in PLAN.loads:
        for metric in ("p50_e2e_s", "p95_e2e_s", "p50_ttft_s"):
            for policy in POLICIES:
                assert abs(relative_error(document, policy, load, metric, "predicted_own").mean) < 0.05, (
                    policy,
                    metric,
                )
    slow, fast = (np.mean([r["speed"] for r in document["runs"] if r["policy"] == p]) for p in ("network", "vllm-own"))
    assert slow / fast == pytest.approx(1.1, rel=0.02)
    assert all(block["offset_ms"] == pytest.approx(1e3 * OFFSET_S) for block in document["blocks"])
    assert ranks(document, "mean_e2e_s", PLAN.loads, "predicted_own").tau == 1.0


def test_a_stopped_experiment_goes_on_where_it_was(tmp_path: Path, calm: list[Disturbance]) -> None:
    """No run is made twice, and the result is the same but for its time."""
    whole, cut = FakeFleet(PLAN), FakeFleet(PLAN, stop_after=9)
    first = done(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        done(tmp_path / "cut", cut)
    rest = FakeFleet(PLAN)
    second = done(tmp_path / "cut", rest)
    assert len(cut.asked) == 9 and len(cut.asked) + len(rest.asked) == len(whole.asked)
    third = done(tmp_path / "cut", FakeFleet(PLAN, stop_after=0))

    def shown(document: dict[str, Any]) -> str:
        """Without what the clock says."""
        runs = [{**run, "began": ""} for run in document["runs"]]
        return json.dumps({**document, "written": "", "runs": runs})

    assert shown(second) == shown(third)
    slo = [[run["measured"]["slo_attainment"] for run in each["runs"]] for each in (first, second)]
    assert slo[0] == slo[1]
