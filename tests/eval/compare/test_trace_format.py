"""``--timeline`` against the published format: whatever is simulated, a viewer shows all of the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmsched.eval.report.chrome_trace import write_timeline
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.variants import scenario_of
from llmsched.policies import parse
from tests.eval.compare import trace_format

TWO_KINDS = "h100-80gb_llama2-70b_tp4:1,h100-80gb_llama2-70b_tp8:2"

SYSTEMS = {
    "batches": ("static,multibin", "--requests 600 --rate 12"),
    "two kinds of servers": ("static", f"--requests 600 --profile {TWO_KINDS}"),
    "own release": ("dynamic", "--requests 600 --release own"),
    "preemptions": ("multibin", "--requests 600 --kv-tokens 6000 --predictor noisy:1"),
    "an overdue queue": ("multibin", "--requests 600 --rate 20 --overdue-factor 1"),
    "iterations": ("vllm,sarathi", "--engine continuous --requests 600 --kv-tokens 40000"),
    "a prefix cache": ("vllm", "--engine continuous --requests 600 --kv-tokens 40000 --shared-prefix 4:500"),
    "impatient clients": ("static", "--requests 600 --rate 34 --patience 1.5 --queue-cap 40"),
    "a horizon": ("static", "--requests 600 --rate 14 --horizon 6"),
    "a closed loop": ("static", "--requests 600 --concurrency 30"),
    "days": ("static", "--requests 300 --rate 0.001"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_timeline_is_a_trace(tmp_path: Path, system: str) -> None:
    """Every event has what its phase asks for, begins have ends, and no slice is lost to another one."""
    policies, words = SYSTEMS[system]
    scenario = scenario_of(*words.split())
    cells = [Cell(name, parse(name), scenario, seed) for seed in (0, 1) for name in policies.split(",")]
    write_timeline(cells, tmp_path / "t.json")
    events = trace_format.read((tmp_path / "t.json").read_text("utf-8"))
    trace_format.check(events)
    phases = Counter(event["ph"] for event in events)
    assert phases["b"] == phases["e"] > 40 and phases["X"] > 8 and phases["C"] > 40
    assert phases["M"] == len(cells) * (1 + len(scenario.config.servers))


def sound() -> list[dict[str, Any]]:
    """A trace that is as it has to be."""
    common = {"pid": 1, "tid": 1000}
    slices = [{"name": "x", "cat": "x", "ph": "X", "ts": ts, "dur": 2.0, "args": {}, **common} for ts in (0.0, 2.0)]
    ids = {"name": "r", "cat": "r", "id": "1.0", "pid": 1, "tid": 1}
    return [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "p"}},
        {"name": "thread_name", "ph": "M", **common, "args": {"name": "server 0"}},
        *slices,
        {"name": "n", "ph": "C", "ts": 0.0, "pid": 1, "args": {"requests": 1}},
        {"name": "n", "ph": "C", "ts": 1.0, "pid": 1, "args": {"requests": 0}},
        {"ph": "b", "ts": 0.0, **ids},
        {"ph": "e", "ts": 2.5, **ids},
    ]


BROKEN: dict[str, tuple[int, dict[str, Any]]] = {  # what is wrong: place of an event, what is changed in it
    "no process name": (0, {"name": "process_labels"}),
    "a name that is no text": (0, {"args": {"name": 1}}),
    "a thread without a name": (2, {"tid": 1001}),
    "a time that is a text": (2, {"ts": "0"}),
    "a time below 0": (2, {"ts": -1.0}),
    "a duration below 0": (2, {"dur": -1.0}),
    "a duration that is not finite": (3, {"dur": float("inf")}),
    "an overlap": (2, {"dur": 2.5}),
    "an overlap in floating point": (2, {"dur": 2.0000001}),
    "slices out of order": (2, {"ts": 4.0}),
    "two values at one time": (5, {"ts": 0.0}),
    "a counter of texts": (5, {"args": {"requests": "0"}}),
    "a begin without an end": (7, {"ph": "b"}),
    "an end of another name": (7, {"name": "s"}),
    "an end of another id": (7, {"id": "1.1"}),
    "an end before the begin": (6, {"ts": 3.0}),
    "a process without a name": (6, {"pid": 2}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_check_finds_every_fault(fault: str) -> None:
    """A sound trace passes; a broken one does not."""
    events = sound()
    trace_format.check(events)
    place, change = BROKEN[fault]
    events[place].update(change)
    with pytest.raises(AssertionError):
        trace_format.check(events)


def test_what_json_does_not_have_is_refused() -> None:
    """NaN and Infinity, which Python would read."""
    with pytest.raises(ValueError, match="NaN"):
        trace_format.read('{"displayTimeUnit":"ms","otherData":{},"traceEvents":[{"ts":NaN}]}')
