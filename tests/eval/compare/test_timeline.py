"""``--timeline``: a track per request, whose phases are the stamps of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmsched.eval.report import request_tracks
from llmsched.eval.report.chrome_trace import write_timeline
from llmsched.eval.report.request_tracks import PHASES, microseconds, request_events
from llmsched.eval.runs.runner import Cell, run_cell
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse
from llmsched_env.core.constants import ABANDONED, COMPLETED, REJECTED
from llmsched_env.simulation.result import RunResult

CASES = {
    "batches": ("multibin", "--requests 150 --rate 12"),
    "iterations": ("vllm", "--engine continuous --requests 150 --kv-tokens 40000"),
    "impatient": ("static", "--requests 150 --rate 14 --patience 1.5 --queue-cap 40"),
    "cut off": ("static", "--requests 150 --rate 14 --horizon 6"),
}


def run_of(case: str) -> RunResult:
    policy, words = CASES[case]
    scenario = scenario_of(*words.split())
    return run_cell(Cell(policy, parse(policy), scenario, 0, timeline=True), scenario.draw(0))


def by_request(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        found.setdefault(event["id"], []).append(event)
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_phases_are_the_stamps(case: str) -> None:
    """Every begin has its end, and phases follow one another from arrival to the end.

    Those of a completed request end at its dispatch, first token, last token and release.
    """
    result = run_of(case)
    rows, tracks = result.requests, by_request(request_events(7, result))
    came = [n for n, status in enumerate(rows["status"]) if status not in (-1, REJECTED)]
    assert list(tracks) == [f"7.{number}" for number in came] and len(came) > 20
    for number in came:
        row, (first, *phases, last) = rows[number], tracks[f"7.{number}"]
        assert (first["ph"], last["ph"], first["name"], last["name"]) == ("b", "e", "request", "request")
        assert first["ts"] == microseconds(row["arrival"]) and first["args"]["output_tokens"] == row["output"]
        begins, ends = phases[::2], phases[1::2]
        assert all((b["ph"], e["ph"], b["name"]) == ("b", "e", e["name"]) for b, e in zip(begins, ends, strict=True))
        assert [first["ts"], *(e["ts"] for e in ends)] == [*(b["ts"] for b in begins), last["ts"]]  # no gap, no overlap
        names = [event["name"] for event in begins]
        assert names == sorted(names, key=PHASES.index) and len(set(names)) == len(names)
        if row["status"] == COMPLETED:
            stamps = {"waiting": "dispatch", "prefill": "first_token", "decode": "last_token", PHASES[3]: "completion"}
            for event in ends:
                assert event["ts"] == microseconds(row[stamps[event["name"]]])
            assert first["args"]["end"] == "completed"
        if row["status"] == ABANDONED:
            assert (
                names == ["waiting"] and last["ts"] == microseconds(row["left"]) and first["args"]["end"] == "abandoned"
            )


def test_every_case_has_what_it_is_for() -> None:
    """Padding in batches, none in iterations; clients that gave up; requests that are unfinished."""
    held = {case: {e["name"] for e in request_events(1, run_of(case))} for case in ("batches", "iterations")}
    assert PHASES[3] in held["batches"] and PHASES[3] not in held["iterations"] and "prefill" in held["iterations"]
    ends = [
        e["args"]["end"] for case in ("impatient", "cut off") for e in request_events(1, run_of(case)) if "args" in e
    ]
    assert {"completed", "abandoned", "unfinished"} <= set(ends)


def test_a_file_has_no_more_tracks_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first requests of every policy; the batches are all there."""
    monkeypatch.setattr(request_tracks, "SHOWN", 10)
    scenario = scenario_of("--requests", "60")
    cells = [Cell(name, parse(name), scenario, 0) for name in ("static", "multibin")]
    write_timeline(cells, tmp_path / "t.json")
    found = json.loads((tmp_path / "t.json").read_text())
    events = found["traceEvents"]
    assert "tracks of the first" in found["otherData"]["requests"]
    tracks = {event["id"] for event in events if event["ph"] == "b"}
    assert tracks == {f"{process}.{number}" for process in (1, 2) for number in range(10)}
    assert sum(event["args"]["size"] for event in events if event["ph"] == "X") >= 120
