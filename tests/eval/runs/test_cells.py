"""Runs that are kept: a key covers all that determines a run, a restart makes what is missing and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval.cli.options import parser_for
from llmsched.eval.runs import cache_key, cells, ray_cluster, runner
from llmsched.eval.runs.cache_key import cell_key
from llmsched.eval.runs.cells import CellStore, Crew
from llmsched.eval.runs.outcome import Outcome
from llmsched.eval.runs.ray_cluster import PackedCell
from llmsched.eval.runs.runner import Cell
from llmsched.eval.scenarios.from_options import scenario_from
from llmsched.eval.scenarios.scenario import Scenario
from llmsched.policies import parse
from llmsched_env.config import SLO

ROOT = Path(__file__).resolve().parents[3]


def scenario_of(*options: str) -> Scenario:
    return scenario_from(parser_for("test", "").read([*options]))


SMALL = scenario_of("--requests", "300")


def some_cells(*names: str, seeds: int = 2) -> list[Cell]:
    return [Cell(name, parse(name), SMALL, seed) for seed in range(seeds) for name in names]


def same(one: Outcome, other: Outcome) -> bool:
    """To the bit, the time that the kernel took apart, which differs from run to run."""
    ours, theirs = ({**o.summary, "wall_s": 0.0} for o in (one, other))
    assert ours.keys() == theirs.keys()
    return repr(ours) == repr(theirs) and np.array_equal(one.latency_counts, other.latency_counts)


BASE = Cell("a", parse("static"), SMALL, 0)
OTHERS = {
    "seed": dataclasses.replace(BASE, seed=1),
    "split": dataclasses.replace(BASE, split="validation"),
    "timeline": dataclasses.replace(BASE, timeline=True),
    "streamed": dataclasses.replace(BASE, streamed=True),
    "parameter": dataclasses.replace(BASE, policy=parse("static:batch=9")),
    "policy": dataclasses.replace(BASE, policy=parse("dynamic")),
    "rate": dataclasses.replace(BASE, scenario=SMALL.at_rate(2.500001)),
    "requests": dataclasses.replace(BASE, scenario=scenario_of("--requests", "301")),
    "workload": dataclasses.replace(BASE, scenario=scenario_of("--requests", "300", "--workload", "azure-code")),
    "predictor": dataclasses.replace(BASE, scenario=scenario_of("--requests", "300", "--predictor", "noisy:0.31")),
    "servers": dataclasses.replace(BASE, scenario=scenario_of("--requests", "300", "--servers", "5")),
    "memory": dataclasses.replace(BASE, scenario=scenario_of("--requests", "300", "--kv-tokens", "50000")),
    "bins": dataclasses.replace(BASE, scenario=scenario_of("--requests", "300", "--bins", "5")),
    "controller": dataclasses.replace(BASE, scenario=scenario_of("--requests", "300", "--controller", "paper:tbt=51")),
    "cut": dataclasses.replace(BASE, scenario=dataclasses.replace(SMALL, cut=(0.0, 0.1))),
    "target": dataclasses.replace(
        BASE,
        scenario=dataclasses.replace(SMALL, config=dataclasses.replace(SMALL.config, slos=(SLO(e2e_s=30.5),))),
    ),
}


@pytest.mark.parametrize("change", OTHERS)
def test_the_key_covers_what_determines_a_run(change: str) -> None:
    assert cell_key(OTHERS[change]) != cell_key(BASE)


def test_the_key_covers_nothing_else() -> None:
    assert cell_key(dataclasses.replace(BASE, label="b")) == cell_key(BASE)
    renamed = dataclasses.replace(SMALL, name="x", source="y", bins_from="z")
    assert cell_key(dataclasses.replace(BASE, scenario=renamed)) == cell_key(BASE)


def test_the_key_covers_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell_key(BASE)
    monkeypatch.setattr(cache_key, "source_version", lambda: "another")
    assert cell_key(BASE) != before


def test_the_version_is_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed byte in a source that counts is another version; a file that does not count is not."""
    (tmp_path / "llmsched_env" / "workload").mkdir(parents=True)
    deep = tmp_path / "llmsched_env" / "workload" / "arrivals.py"
    deep.write_text("1")
    monkeypatch.setattr(cache_key, "ROOT", tmp_path)
    read = cache_key.source_version.__wrapped__
    before = read()
    (tmp_path / "notes.md").write_text("x")
    assert read() == before
    deep.write_text("2")
    assert read() != before


def test_the_key_covers_the_rows_of_a_trace_and_a_users_code(tmp_path: Path) -> None:
    """The path of the file does not matter, what is in it does."""
    keys = []
    for name, last in (("a", 7), ("b", 7), ("c", 8)):
        trace, code = tmp_path / f"{name}.csv", tmp_path / name / "mine.py"
        code.parent.mkdir()
        rows = "\n".join(f"{i},5,{last}" for i in range(40))
        trace.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
        code.write_text("def mine(record, params, memory, rng):\n    return record.num_bins, 4\n")
        keys.append(cell_key(Cell("x", parse(f"{code}:mine"), scenario_of("--workload", str(trace)), 0)))
    assert keys[0] == keys[1] != keys[2]
    (tmp_path / "d").mkdir()
    other = tmp_path / "d" / "mine.py"
    other.write_text("def mine(record, params, memory, rng):\n    return record.num_bins, 5\n")
    scenario = scenario_of("--workload", str(tmp_path / "a.csv"))
    assert cell_key(Cell("x", parse(f"{other}:mine"), scenario, 0)) != keys[0]


def test_a_restart_makes_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the cells are there, and one line was cut off by a kill: that one and the other half are made."""
    file, wanted = tmp_path / "cells.jsonl", some_cells("static", "multibin", "dynamic")
    fresh = {done.place: done.outcome for done in Crew().run_cells(wanted)}
    for _ in Crew(store=CellStore(file)).run_cells(wanted[:4]):
        pass
    whole = file.read_bytes()
    assert whole.count(b"\n") == 4
    file.write_bytes(whole[:-30])

    made: list[Cell] = []
    real = cells.run_cells

    def counted(todo, *others):
        made.extend(todo)
        return real(todo, *others)

    monkeypatch.setattr(cells, "run_cells", counted)
    found = list(Crew(jobs=2, store=CellStore(file)).run_cells(wanted))
    assert sorted(done.place for done in found) == list(range(6))
    assert len(made) == 3 and sum(done.stored for done in found) == 3
    assert all(same(done.outcome, fresh[done.place]) for done in found)
    assert [done.outcome.policy for done in sorted(found, key=lambda d: d.place)] == [c.label for c in wanted]
    made.clear()
    again = list(Crew(store=CellStore(file)).run_cells(wanted))
    assert not made and all(done.stored and same(done.outcome, fresh[done.place]) for done in again)


def test_equal_cells_run_once_and_keep_their_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = [Cell(label, parse("static"), SMALL, 0) for label in ("one", "two")]
    made: list[Cell] = []
    real = cells.run_cells

    def noted(todo: Any, *others: Any) -> Any:
        made.extend(todo)
        return real(todo, *others)

    monkeypatch.setattr(cells, "run_cells", noted)
    for _ in range(2):
        found = list(Crew(store=CellStore(tmp_path / "cells.jsonl")).run_cells(twins))
        assert [done.outcome.policy for done in found] == ["one", "two"]
    assert len(made) == 1


def test_two_who_write_the_same_store_find_their_runs(tmp_path: Path) -> None:
    """Each knows where in the file its own runs begin, whatever the other has written before."""
    one, two = CellStore(tmp_path / "x"), CellStore(tmp_path / "x")
    outcomes = [done.outcome for done in Crew().run_cells(some_cells("static", "multibin"))]
    for place, outcome in enumerate(outcomes):
        (one, two)[place % 2].put(str(place), outcome)
    for place, outcome in enumerate(outcomes):
        kept = (one, two)[place % 2].get(str(place), "label")
        assert kept is not None and same(kept, outcome) and kept.policy == "label"
    assert len(CellStore(tmp_path / "x")) == 4 and len(one) == 2 and one.get("1", "label") is None


def test_what_is_kept_comes_back_whole(tmp_path: Path) -> None:
    """Timelines and undefined values too, and an error in between loses nothing."""
    hopeless = scenario_of("--requests", "50", "--goodput", "e2el:0.001")
    cell = Cell("static", parse("static"), hopeless, 0, timeline=True)
    (made,) = Crew(store=CellStore(tmp_path / "x")).run_cells([cell])
    (kept,) = Crew(store=CellStore(tmp_path / "x")).run_cells([cell])
    assert np.isnan(made.outcome.summary["jain_index"]) and same(made.outcome, kept.outcome)
    one, two = made.outcome.timeline, kept.outcome.timeline
    assert one is not None and two is not None and one.last_arrival_s == two.last_arrival_s
    for name in ("time_s", "waiting", "batch"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
        assert getattr(one, name).dtype == getattr(two, name).dtype


def test_a_streamed_run_is_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of 100 of 300 requests: counts to the bit, sums to rounding, percentiles to 0.5 %."""
    monkeypatch.setattr(runner, "CHUNK", 100)
    base = Cell("multibin", parse("multibin"), SMALL, 3)
    (whole,), (pieces,) = (list(Crew().run_cells([cell])) for cell in (base, dataclasses.replace(base, streamed=True)))
    one, two = whole.outcome.summary, pieces.outcome.summary
    for key in ("completed", "slo_attainment", "mean_batch_size", "duration_s", "per_bin"):
        assert one[key] == two[key]
    assert two["mean_e2el_ms"] == pytest.approx(one["mean_e2el_ms"], rel=1e-12)
    assert two["p95_e2el_ms"] == pytest.approx(one["p95_e2el_ms"], rel=0.006)
    assert np.array_equal(whole.outcome.latency_counts, pieces.outcome.latency_counts)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_comparison_is_taken_up_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle; the second start keeps every finished run, and ends with what one start gives."""
    options = ["--policies", "static,random", "--requests", "4000", "--seeds", "30", "--jobs", "1"]
    command = [sys.executable, str(ROOT / "eval" / "compare.py"), *options, "--out"]
    process = subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store, deadline = tmp_path / "cells.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and (not store.exists() or store.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = store.read_bytes()
    finished = before.count(b"\n")
    assert 3 <= finished < 60
    run = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True)
    after = store.read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    rows = [json.loads(line)["key"] for line in after.splitlines() if line.endswith(b"}")]
    assert len(rows) == len(set(rows)) == 60
    whole = subprocess.run([*command, str(tmp_path / "new")], capture_output=True, text=True, check=True)
    assert run.stdout == whole.stdout


def test_a_cell_that_travels_is_the_same_cell(tmp_path: Path) -> None:
    """What goes to another machine as bytes, a user's code included, has the key of what was packed."""
    code = (
        "def mine(record, params, memory, rng):\n    return record.num_bins, 3\n"  # registered ones: tests/integrations
    )
    (tmp_path / "mine.py").write_text(code)
    for text in ("static:batch=7", "timeout:wait=300", f"{tmp_path / 'mine.py'}:mine"):
        cell = Cell(text, parse(text), SMALL, 3, "validation", timeline=True)
        parcel, scenario = pickle.loads(pickle.dumps((PackedCell.of(cell), cell.scenario)))
        found = parcel.cell(scenario)
        assert (found.label, cell_key(found)) == (text, cell_key(cell))
        assert found.policy.ready(scenario.config).params.flags.writeable


def test_a_cluster_that_does_not_answer_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="--ray 127.0.0.1:1: nothing answers there"):
        ray_cluster._check_answers("127.0.0.1:1")
    with pytest.raises(ValueError, match="--ray 127.0.0.1:port"):
        ray_cluster._check_answers("127.0.0.1:port")
    ray_cluster._check_answers("auto")
