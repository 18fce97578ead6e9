"""SLO classes: read from a trace, given targets, told apart in results, and served in order where that is asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval.cli.options import parser_for
from llmsched.eval.experiments.capacity.measure import in_every_class
from llmsched.eval.report.policy_table import class_table
from llmsched.eval.runs.aggregate import policy_summary
from llmsched.eval.runs.outcome import outcome_of
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.policies import parse
from llmsched_env.config import SLO, Queueing, Server, SimConfig
from llmsched_env.core.layout import COMPLETED
from llmsched_env.options.presets import TARGETS
from llmsched_env.profiles import load_profile
from llmsched_env.simulation.metrics import Accumulator, summarize
from llmsched_env.simulation.result import RunResult
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.traces import read_trace
from llmsched_env.workload.workload import Workload

WORDS = ("gold", "free", "gold", "batch")
H100 = load_profile("h100-80gb_llama2-70b_tp4")


def rows(classes: list, n: int = 40) -> list[tuple]:
    """Rows (time, prompt, output, class), the classes in turn."""
    return [(0.5 * i, 100 + i, 20 + i % 7, classes[i % len(classes)]) for i in range(n)]


def written(folder: Path, kind: str, classes: list) -> Path:
    """A trace of a kind on disk."""
    path = folder / f"{kind}.trace"
    if kind == "csv":
        lines = [
            "arrival_s,slo_class,prompt_tokens,output_tokens",
            *(f"{t},{c},{p},{o}" for t, p, o, c in rows(classes)),
        ]
        path.write_text("\n".join(lines))
    else:
        keys = ("timestamp", "input_length", "output_length", "slo_class")
        found = [dict(zip(keys, (int(1000 * t), p, o, c), strict=True)) for t, p, o, c in rows(classes)]
        path.write_text("\n".join(map(json.dumps, found)))
    return path


def scenario(path: Path, *words: str):
    """The scenario of a command line over a trace."""
    return scenario_from(parser_for("test", "").read(["--workload", str(path), "--bins", "1", *words]))


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("classes", [list(WORDS), [2, 0, 2, 1], ["2", "0", "2", "1"]])
def test_a_column_is_read_by_name_and_by_number(tmp_path: Path, kind: str, classes: list) -> None:
    """Every row keeps its class, in every kind of file."""
    trace = read_trace(written(tmp_path, kind, classes))
    assert trace.classes is not None
    assert [trace.classes.names[k] for k in trace.classes.number] == [str(c) for *_, c in rows(classes)]
    assert trace.classes.names == tuple(sorted({str(c) for c in classes}))


def test_requests_have_the_class_and_the_targets_of_their_row(tmp_path: Path) -> None:
    """Targets are found by name, in whatever order they are given; the shares are those of the trace."""
    path = written(tmp_path, "csv", list(WORDS))
    found = scenario(path, "--slo-classes", "free=0.1,ttft:900", "gold=0.1,ttft:100", "batch=0.8,e2el:60000")
    assert [(slo.name, slo.ttft_s, slo.share) for slo in found.config.slos][:2] == [
        ("free", 0.9, 0.25),
        ("gold", 0.1, 0.5),
    ]
    drawn, trace = found.workload.draw(3), read_trace(path)
    by_prompt = {int(p): WORDS[i % 4] for i, p in enumerate(trace.prompt_tokens)}
    names = [found.config.slos[k].name for k in drawn.slo_class]
    assert names == [by_prompt[int(p)] for p in drawn.prompt_tokens]


def test_without_targets_of_their_own_all_classes_have_the_same(tmp_path: Path) -> None:
    """One class for every name, with the targets of --goodput."""
    found = scenario(written(tmp_path, "csv", list(WORDS)), "--goodput", "e2el:7000")
    assert [(slo.name, slo.e2e_s, slo.share) for slo in found.config.slos] == [
        ("batch", 7.0, 0.25),
        ("free", 7.0, 0.25),
        ("gold", 7.0, 0.5),
    ]


def test_numbers_mean_places(tmp_path: Path) -> None:
    """Class 1 of a trace is the second class given."""
    found = scenario(written(tmp_path, "csv", [1, 0]), "--slo-classes", "a=0.5,ttft:100", "b=0.5,ttft:200")
    drawn = found.workload.draw(0)
    assert {int(p) % 2 for p in drawn.prompt_tokens[drawn.slo_class == 1]} == {0}


@pytest.mark.parametrize(
    ("classes", "words", "told"),
    [
        (list(WORDS), ["--slo-classes", "gold=0.5,ttft:100", "free=0.5,ttft:9"], "slo_class batch of the trace is not"),
        ([0, 5], ["--slo-classes", "a=0.5,ttft:100", "b=0.5,ttft:9"], "slo_class 5 of the trace is not among"),
        (["gold", ""], [], "row 2: slo_class"),
        ([0, 1.5], [], "row 2: slo_class"),
        ([0, -1], [], "row 2: slo_class"),
    ],
)
def test_what_is_no_class_is_refused(tmp_path: Path, classes: list, words: list[str], told: str) -> None:
    """In one line that names the class, or the row."""
    with pytest.raises(ValueError, match=told) as caught:
        scenario(written(tmp_path, "csv", classes), *words)
    assert "\n" not in str(caught.value)


def test_an_environment_does_not_ignore_classes(tmp_path: Path) -> None:
    """An episode has one class: such a trace is refused where no names are given."""
    with pytest.raises(ValueError, match="has a column slo_class"):
        Workload(written(tmp_path, "csv", list(WORDS)))


@pytest.mark.parametrize("name", TARGETS)
def test_limits_of_benchmarks_by_name(name: str) -> None:
    """As the targets, and as part of a class; the interactive ones are tighter."""
    words = ["--engine", "continuous"]
    alone = scenario_from(parser_for("test", "").read([*words, "--goodput", name])).config.slos[0]
    assert {"ttft": alone.ttft_s, "tpot": alone.tpot_s} == TARGETS[name] and np.isinf(alone.e2e_s)
    both = scenario_from(
        parser_for("test", "").read([*words, "--slo-classes", f"a=0.5,{name},e2el:9000", "b=0.5,ttft:9"])
    )
    assert (both.config.slos[0].ttft_s, both.config.slos[0].e2e_s) == (alone.ttft_s, 9.0)
    if name.endswith("-interactive"):
        usual = TARGETS[name.removesuffix("-interactive")]
        assert TARGETS[name]["ttft"] < usual["ttft"] and TARGETS[name]["tpot"] < usual["tpot"]


def two_classes(engine: str = "batch", **queueing) -> RunResult:
    """An overloaded run of two classes, half of the requests each."""
    slos = (SLO(e2e_s=12.0, share=0.5, name="first"), SLO(e2e_s=20.0, share=0.5, name="second"))
    requests = Workload(
        "azure-conv", requests=3_000, rate=6.0 if engine == "batch" else 25.0, slo_shares=(0.5, 0.5)
    ).draw(1)
    config = SimConfig((Server(H100),) * 4, Queueing(**queueing), slos=slos, engine=engine)
    ready = parse("static:batch=16").ready(config)
    return simulate(ready.config, requests, ready.decide, **ready.options)


def test_results_by_class_add_up() -> None:
    """Counts of the classes sum to those of all; a run in two chunks says the same; shares are by hand."""
    result = two_classes(queue_cap=60)
    found = summarize(result)
    for key in ("submitted", "completed", "refused", "abandoned"):
        assert sum(row[key] for row in found["per_class"]) == found[key], key
    assert [row["class"] for row in found["per_class"]] == ["first", "second"]
    pieces = Accumulator()
    for rows_of in (result.requests[:1000], result.requests[1000:]):
        pieces.add(dataclasses.replace(result, requests=rows_of))
    assert pieces.summary()["per_class"] == found["per_class"]
    for c, row in enumerate(found["per_class"]):
        mine = result.requests[result.requests["slo_class"] == c]
        done = mine[mine["status"] == COMPLETED]
        latency = done["completion"] - done["arrival"]
        assert row["slo_attainment"] == pytest.approx((latency <= (12.0, 20.0)[c]).sum() / len(mine))
        assert row["p99_e2el_ms"] == pytest.approx(1000 * np.percentile(latency, 99), rel=0.006)
    assert in_every_class(found) == min(row["slo_attainment"] for row in found["per_class"])


def test_tables_tell_classes_apart() -> None:
    """A row per policy and class, means over seeds; no table where there is one class."""
    runs = [outcome_of("static", seed, two_classes()) for seed in (0, 1)]
    summary = policy_summary("static", runs, None)
    table = class_table([summary])
    assert table is not None and [row["class"] for row in table.rows] == ["first", "second"]
    assert summary["per_class"][0]["submitted"] == 2 * runs[0].summary["per_class"][0]["submitted"]
    summary["per_class"] = summary["per_class"][:1]
    assert class_table([summary]) is None


@pytest.mark.parametrize("engine", ["batch", "continuous"])
def test_strict_priority_serves_the_first_class_first(engine: str) -> None:
    """Of two requests that wait together the one of the first class is dispatched no later; it hardly waits."""
    plain, strict = two_classes(engine), two_classes(engine, class_priority="strict")
    waits = [
        [float((r["dispatch"] - r["arrival"])[r["slo_class"] == c].mean()) for c in (0, 1)]
        for r in (plain.requests, strict.requests)
    ]
    assert waits[1][0] < 0.5 * waits[0][0] and waits[1][1] > waits[0][1]
    rows = strict.requests[strict.requests["preemptions"] == 0]
    first, second = (rows[rows["slo_class"] == c] for c in (0, 1))
    for row in second[::37]:
        waited = first[(first["arrival"] <= row["dispatch"]) & (first["dispatch"] > row["dispatch"])]
        assert len(waited) == 0
