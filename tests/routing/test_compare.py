"""``compare --routing LIST``: a row per policy and routing, kept runs, one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.tools import run

BASE = ["--engine", "continuous", "--policies", "vllm", "--requests", "300", "--seeds", "2", "--rate", "20"]

SAME = ("completed", "slo_attainment", "mean_e2el_ms", "p99_ttft_ms", "cached_tokens", "prefix_cache_hit_rate", "ci95")


def rows(*words: str) -> dict[str, dict]:
    """The summaries of a comparison, by policy."""
    ended = run(*BASE, *words, "--json")
    assert ended.code == 0, ended
    return {summary["policy"]: summary for summary in json.loads(ended.out)["policies"]}


def test_a_list_compares_routings(tmp_path: Path) -> None:
    """As a rule of the engine and in a list a routing gives the same digits; a second start makes no run anew."""
    words = ["--routing", "round-robin,power-of-two,prefix-load:kv=1", "--shared-prefix", "40:2000:1"]
    first = rows(*words, "--out", str(tmp_path / "o"))
    assert list(first) == ["vllm @ round-robin", "vllm @ power-of-two", "vllm @ prefix-load:kv=1"]
    assert [row["parameters"] for row in first.values()] == list(first)
    (alone,) = rows("--routing", "round-robin", "--shared-prefix", "40:2000:1").values()
    listed = first["vllm @ round-robin"]
    assert {name: alone[name] for name in SAME} == {name: listed[name] for name in SAME}
    stored = (tmp_path / "o" / "cells.jsonl").read_bytes()
    assert rows(*words, "--out", str(tmp_path / "o")) == first
    assert (tmp_path / "o" / "cells.jsonl").read_bytes() == stored


def test_a_user_s_function_and_its_change_are_seen(tmp_path: Path) -> None:
    """Kept runs are those of the code that made them."""
    file = tmp_path / "my.py"
    file.write_text("def mine(record, params, memory, rng):\n    return 0\n")
    words = ["--routing", f"{file}:mine", "--out", str(tmp_path / "o")]
    (first,) = rows(*words).values()
    file.write_text("def mine(record, params, memory, rng):\n    return record.number % record.num_servers\n")
    (second,) = rows(*words).values()
    assert first["mean_e2el_ms"] != second["mean_e2el_ms"]


def test_the_page_and_the_timeline_say_the_routings(tmp_path: Path) -> None:
    """What was simulated is said with the routings in it, and every row is on the page and in the timeline."""
    page, timeline = tmp_path / "page.html", tmp_path / "timeline.json"
    words = ["--routing", "round-robin,prefix-load", "--report", str(page), "--timeline", str(timeline), "--json"]
    ended = run(*BASE, *words)
    assert ended.code == 0, ended
    found = json.loads(ended.out)
    assert found["scenario"]["routing"] == "round-robin,prefix-load"
    shown, events = page.read_text("utf-8"), json.loads(timeline.read_text("utf-8"))["traceEvents"]
    named = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    for policy in ("vllm @ round-robin", "vllm @ prefix-load"):
        assert policy in shown
        assert any(policy in name for name in named)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--routing", "nearest"], "'nearest' is not a routing"),
        (["--routing", "asked"], "'asked' is not a routing"),
        (["--routing", "pull,"], "empty entry"),
        (["--routing", "pull,power-of-two", "--engine", "batch", "--policies", "static"], "engine 'continuous'"),
        (["--load-age", "-1"], "--load-age"),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    """Exit 2 and one line."""
    ended = run(*BASE, *words)
    assert ended.code == 2 and said in ended.err and ended.err.count("\n") == 1
