"""The experiments end to end on small runs, and what each of them claims against values known otherwise."""

from __future__ import annotations

import csv
import importlib
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from llmsched.eval.cli import frame
from llmsched.eval.cli.options import parser_for
from llmsched.eval.experiments import levels
from llmsched.eval.experiments.capacity import study as capacity
from llmsched.eval.experiments.sensitivity import designs, factors
from llmsched.eval.experiments.stress import experiment as stress
from llmsched.eval.experiments.theory import theorem
from llmsched.eval.report import chrome_trace
from llmsched.eval.runs.runner import Cell, SharedArrivals, run_cell
from llmsched.eval.scenarios.variants import OF_2023, scenario_of, variant, with_targets
from llmsched.policies import parse
from llmsched_env.profiles import load_profile
from llmsched_env.simulation.threshold import WholeNumberSearch, run_side_by_side
from tests.simulator.test_theory import discrete
from tests.simulator.test_theory import theorem as published

SMALL = {
    "theory": ["--requests", "400", "--seeds", "2", "--bin-counts", "1,4", "--batches", "8", "--sigmas", "0,2"],
    "levels": ["--requests", "1000", "--seeds", "3", "--policies", "static,dynamic,multibin"],
    "capacity": ["--requests", "300", "--seeds", "2", "--policies", "dynamic,multibin", "--multiples", "0.5,1,2"],
    "stress": ["--sizes", "200,400", "--at", "300", "--seeds", "2", "--server-counts", "1,4", "--bin-counts", "1,4"],
    "sensitivity": ["--requests", "200", "--seeds", "2", "--factors", "rate,sigma,bins", "--points", "8"],
}
SMALL["capacity"] += ["--scales", "0.5,1"]
SMALL["stress"] += ["--clocks", "1,100", "--loads", "1", "--policies", "dynamic,multibin", "--full"]


@pytest.fixture(autouse=True)
def small_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit of load from short runs."""
    monkeypatch.setattr(stress, "CAPACITY_REQUESTS", 300)


def main_of(name: str):
    return importlib.import_module(f"llmsched.eval.{name}").main


def summary_of(name: str, capsys: pytest.CaptureFixture, *more: str) -> dict:
    assert main_of(name)([*SMALL[name], *more, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", SMALL)
def test_every_experiment_prints_keeps_and_is_taken_up_again(name, capsys, tmp_path, monkeypatch):
    """Tables within 120 columns; rows, tables, summary and figures in the folder; the second start makes no run."""
    out, report, trace = tmp_path / "out", tmp_path / "page.html", tmp_path / "trace.json"
    files = ["--out", str(out), "--report", str(report), "--timeline", str(trace)]
    assert main_of(name)([*SMALL[name], *files]) == 0
    first, err = capsys.readouterr()
    assert err == "" and max(len(line) for line in first.splitlines()) <= 120
    summary = json.loads((out / "summary.json").read_text())
    assert summary["experiment"] == name and summary["seeds"][0] == 0
    for table, rows in summary["tables"].items():
        assert rows and (out / f"{table}.csv").read_text().count("\n") == len(rows) + 1
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 8 and all(row["policy"] and row["seed"] and row["slo_attainment"] for row in rows)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["command"][1] == f"eval/{name}.py" and manifest["command"][2:] == [*SMALL[name], *files]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (out / "figures").iterdir())
    assert "<table" in report.read_text() and json.loads(trace.read_text())["traceEvents"]

    def never(todo, *others):
        assert not todo, f"{len(todo)} runs were made again"
        return iter(())

    monkeypatch.setattr("llmsched.eval.runs.cells.run_cells", never)
    assert main_of(name)([*SMALL[name], "--out", str(out)]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("theory", ["--bin-counts", "0"], "from 1 to 32"),
        ("theory", ["--batches", "2,2"], "every value once"),
        ("theory", ["--rate", "2"], "--rate is not an option"),
        ("levels", ["--rate", "2"], "give --load"),
        ("levels", ["--policies", "static"], "at least two policies"),
        ("levels", ["--simple-profile", "synthetik"], "synthetic"),
        ("levels", ["--engine", "continuous"], "--simple-profile synthetic"),
        ("sla", ["--engine", "batch"], "--engine batch"),
        ("capacity", ["--shares", "1.5"], "at most 1"),
        ("capacity", ["--policies", "statik"], "static"),
        ("stress", ["--requests", "5"], "--sizes"),
        ("stress", ["--profile", "a100-80gb_llama2-70b_tp4:2,h100-80gb_llama2-70b_tp4:2"], "one kind"),
        ("sensitivity", ["--factors", "sigm"], "sigma"),
        ("sensitivity", ["--design", "sobol", "--points", "3", "--requests", "50"], "power of 2"),
        ("sensitivity", ["--report", "no/such/folder/page.html"], "no/such/folder"),
        ("capacity", ["--timeline", "."], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(name, options, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main_of(name)([*options, *(["--seeds", "1"] if name != "theory" else [])])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith(f"{name}.py: error: ") and said in err, err


# ---- theory


@pytest.mark.parametrize("bins", [1, 2, 4, 8])
def test_the_theorem_agrees_with_the_one_of_the_tests(bins):
    """Written twice, by hand: the published formula, and the exact one for whole tokens."""
    assert theorem.throughput(bins, 8) == pytest.approx(published(bins), rel=1e-12)
    assert theorem.whole_tokens(bins, 8) == pytest.approx(discrete(bins), rel=1e-4)
    assert theorem.throughput(10**9, 8) == pytest.approx(theorem.limit(8), rel=1e-6)


def test_simulation_meets_the_theorem_and_binning_by_nothing_gains_nothing(capsys):
    tables = summary_of("theory", capsys, "--requests", "6000", "--seeds", "4")["tables"]
    for row in tables["theorem"]:
        assert row["simulated"] == pytest.approx(row["published"], rel=0.015)
    blind = next(row for row in tables["prediction"] if row["predictor"] == "prompt-only")
    assert blind["gain_uniform"] == pytest.approx(0.0, abs=5e-3)
    sharp, dull = (row["gain_uniform"] for row in tables["prediction"][:2])
    assert sharp > 0.4 > dull
    by = {(row["workload"], row["profile"]): row for row in tables["prompts"]}
    assert abs(by["azure-conv", "ideal"]["prefill"]) < 1e-9  # prompts are free there
    assert by["azure-code", "h100-80gb_llama2-70b_tp4"]["prefill"] > 0.3
    assert by["azure-code", "h100-80gb_llama2-70b_tp4"]["oracle"] < by["azure-code", "ideal"]["oracle"]
    assert by["azure-code", "peer-qwen3-1.7b-rtx4080"]["blind"] > by["azure-code", "peer-qwen3-1.7b-rtx4080"]["oracle"]


# ---- capacity


@pytest.mark.parametrize("truth", [-50, -7, 0, 3, 19, 50, 51, 60])
def test_search_finds_the_last_that_holds(truth):
    search = WholeNumberSearch(start=0, lowest=-50, highest=50)
    tried = []
    while (number := search.wanted) is not None:
        tried.append(number)
        search.tell(number, number <= truth)
    assert search.low == min(truth, 50)
    assert len(tried) == len(set(tried)) <= 14 and all(-50 <= n <= 50 for n in tried)


def test_search_says_when_nothing_holds_and_goes_side_by_side():
    rounds = []

    def tried(asked):
        rounds.append(len(asked))
        return [number <= {"a": 7, "b": -99}[key] for key, number in asked]

    searches = {key: WholeNumberSearch(0, -9, 9) for key in ("a", "b")}
    assert run_side_by_side(searches, tried) == {"a": 7, "b": None}
    assert rounds[0] == 2


def test_capacity_is_the_last_rate_that_keeps_the_share(capsys, tmp_path):
    """Every run is in results.csv: at the rate found the share is kept, 1 % above it is not, seed by seed."""
    found = summary_of("capacity", capsys, "--out", str(tmp_path), "--shares", "0.9")["tables"]
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] in ("rate", "capacity")]
    for line in found["capacity"]:
        rates = []
        for seed in ("0", "1"):
            own = sorted(
                (float(row["rate"]), float(row["slo_attainment"]))
                for row in rows
                if row["policy"] == line["policy"] and row["seed"] == seed
            )
            first = next(i for i, (_, met) in enumerate(own) if met < 0.9)
            assert own[first][0] / own[first - 1][0] == pytest.approx(capacity.STEP)
            rates.append(own[first - 1][0])
        assert line["rate_0.9"] == pytest.approx(np.mean(rates))
    for line in found["servers"]:
        assert line["met"] >= 0.9 and (line["servers"] == 1 or line["less"] < 0.9)


def test_scaled_targets_change_the_targets_alone():
    base = scenario_of("--goodput", "e2el:30000", "tpot:100")
    half = with_targets(base, 0.5)
    assert (half.config.slos[0].e2e_s, half.config.slos[0].tpot_s) == (15.0, 0.05)
    assert half.config.tbt_s == base.config.tbt_s == 0.1 and half.workload == base.workload
    assert math.isinf(half.config.slos[0].ttft_s)


# ---- levels


def test_a_level_of_synthetic_latency_is_as_tight_as_the_measured_one():
    """Targets stay the same multiple of the time of a request alone."""
    base = scenario_of(*OF_2023, "--requests", "100")
    plain, sample = levels.with_simple_profile(base, load_profile("synthetic")), base.draw(0, "calibration")
    ratio = [s.config.slos[0].e2e_s / levels.alone_s(s.config.servers[0].profile, sample) for s in (base, plain)]
    assert ratio[0] == pytest.approx(ratio[1]) and plain.config.tbt_s < 0.01 * base.config.tbt_s
    assert {server.profile.name for server in plain.config.servers} == {"synthetic"}


def test_time_alone_is_what_the_simulator_takes():
    base = scenario_of("--requests", "200", "--rate", "0.001", "--servers", "4")
    requests = base.draw(0)
    cell = Cell("static", parse("static"), base, 0)
    rows = run_cell(cell, SharedArrivals([cell]).take(cell)).requests
    alone = levels.alone_s(base.config.servers[0].profile, requests)
    assert np.mean(rows["completion"] - rows["arrival"]) == pytest.approx(alone, rel=1e-3)


def test_a_trace_at_poisson_arrivals_keeps_its_lengths(tmp_path):
    rows = "\n".join(f"{i // 10},{5 + i},{7 + i % 3}" for i in range(500))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}\n")
    base = scenario_of("--workload", str(tmp_path / "t.csv"))
    plain = levels.with_poisson_arrivals(base.workload, 0)
    assert plain.trace is not None and base.workload.trace is not None
    assert np.array_equal(plain.trace.prompt_tokens, base.workload.trace.prompt_tokens)
    gaps = np.diff(plain.trace.arrival_s)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.15)
    assert plain.trace.mean_gap_s == pytest.approx(base.workload.trace.mean_gap_s, rel=0.15)


def test_agreement_of_ranks():
    """The same order: 1; the opposite: -1, all pairs reversed; chance that hides the order decides none."""
    up = np.array([[0.1, 0.11], [0.5, 0.52], [0.9, 0.91]])
    met = np.array([up, up + 0.01, up[::-1], np.array([[0.1, 0.9], [0.9, 0.1], [0.5, 0.5]])])
    rows = levels.agreement(["a", "b", "c", "d"], met).rows
    by = {(row["one"], row["other"]): row for row in rows}
    assert by["a", "b"]["tau"] == pytest.approx(1.0) and by["a", "b"]["reversed"] == 0 and by["a", "b"]["decided"] == 3
    assert by["a", "c"]["tau"] == pytest.approx(-1.0) and by["a", "c"]["reversed"] == 3
    assert by["a", "d"]["decided"] == 0


# ---- stress


def test_load_depends_neither_on_requests_nor_on_servers_and_one_bin_is_the_single_queue(capsys, tmp_path):
    found = summary_of("stress", capsys, "--out", str(tmp_path))["tables"]
    clock = [row for row in found["by_requests"] if row["level"] == "clock x 100"]
    assert len({row["rate"] for row in clock}) == 1 and clock[0]["rate"] == pytest.approx(553.04, rel=1e-3)
    load = [row for row in found["by_servers"] if row["level"] == "load 1"]
    assert load[1]["rate"] / load[0]["rate"] == pytest.approx(load[1]["servers"] / load[0]["servers"])
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    one = {(r["level"], r["seed"]): r["mean_e2el_ms"] for r in rows if r["step"] == "bins" and r["bins"] == "1"}
    single = {
        (r["level"], r["seed"]): r["mean_e2el_ms"]
        for r in rows
        if r["step"] == "servers" and r["servers"] == "4" and r["policy"] == "dynamic"
    }
    assert one and one == single
    assert len([r for r in rows if r["step"] == "grid"]) == 2 * 2 * 2 * 2 * 2  # clocks, sizes, servers, bins, seeds


def test_long_runs_are_streamed(monkeypatch, capsys):
    monkeypatch.setattr(stress, "STREAM_FROM", 250)
    seen: list[tuple[int, bool]] = []
    real = frame.Session.runs

    def runs(self, cells, *rest):
        seen.extend((cell.scenario.workload.requests, cell.streamed) for cell in cells)
        return real(self, cells, *rest)

    monkeypatch.setattr(frame.Session, "runs", runs)
    summary_of("stress", capsys)
    assert set(seen) == {(200, False), (300, True), (400, True)}


# ---- sensitivity


def test_factors_change_what_they_say_and_nothing_else():
    options = parser_for("x", "").read([*OF_2023, "--requests", "100"])
    base = with_targets(variant(options, rate=2.0), 1.0)  # which writes its D out
    assert factors.scenario_at(options, base, {}).config == base.config
    changed = {
        "rate": lambda s: s.workload.mean_rate == 3.0,
        "targets": lambda s: s.config.slos[0].e2e_s == 45.0,
        "burstiness": lambda s: s.workload.burstiness == pytest.approx(1 / 1.5),
        "sigma": lambda s: s.workload.predictor == "noisy:1.5",
        "memory": lambda s: s.config.servers[0].eta == round(1.5 * base.config.servers[0].eta),
        "tbt": lambda s: s.config.tbt_s == pytest.approx(0.075),
        "eps": lambda s: s.config.controller.eps_s == 0.003,
        "alpha": lambda s: s.config.controller.alpha == 1.5,
        "delta": lambda s: s.config.controller.delta == 1.5,
        "ema": lambda s: s.config.controller.ema == 0.5,
        "eps-memory": lambda s: s.config.controller.eps_memory == 0.5,
        "bins": lambda s: s.config.queueing.num_bins == 2,
    }
    assert set(changed) == set(factors.NAMES)
    values = {"bins": 2, "ema": 0.5, "eps-memory": 0.5}
    for name in changed:
        other = factors.scenario_at(options, base, {name: values.get(name, 1.5)})
        wrong = [n for n, check in changed.items() if bool(check(other)) != (n == name)]
        assert not wrong, (name, wrong)
    for factor in factors.FACTORS:
        assert factor.at(0.0) == pytest.approx(factor.low) and factor.at(1.0) == pytest.approx(factor.high)


def test_rank_coefficients_find_what_the_response_follows():
    rng = np.random.default_rng(0)
    points = designs.latin(3, 200, rng)
    assert all(len(np.unique(np.floor(column * 200))) == 200 for column in points.T)
    found, fit = designs.rank_coefficients(points, np.exp(5 * points[:, 1]) - 1e-6 * points[:, 0])
    assert found[1].mean == pytest.approx(1.0, abs=0.02) and fit > 0.99
    assert abs(found[2].mean) < 0.02
    flat, _ = designs.rank_coefficients(points, np.ones(200))
    assert [value.mean for value in flat] == [0.0] * 3


def test_sobol_indices_of_the_ishigami_function():
    """The textbook case: S = (0.3139, 0.4424, 0), ST = (0.5576, 0.4424, 0.2437)."""
    rng = np.random.default_rng(3)
    design = designs.Saltelli.draw(3, 2048, rng)
    x = (2 * design.points - 1) * np.pi
    values = np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    first, total = design.indices(values, rng)
    assert [v.mean for v in first] == pytest.approx([0.3139, 0.4424, 0.0], abs=0.03)
    assert [v.mean for v in total] == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.03)
    assert all(v.half is not None and 0 < v.half < 0.15 for v in total)


def test_sensitivity_with_sobol_indices(capsys):
    found = summary_of("sensitivity", capsys, "--design", "sobol", "--points", "4", "--policies", "dynamic")
    rows = found["tables"]["sobol"]
    assert [row["factor"] for row in rows] == ["arrival rate", "prediction error, sigma", "bins"]
    assert rows[0]["dynamic_total"] > 0.1 > abs(rows[1]["dynamic_total"])  # dynamic looks at no prediction here


# ---- the frame


def test_a_variant_of_options_leaves_out_what_it_excludes():
    options = parser_for("x", "").read(["--load", "0.5", "--duration", "60", "--servers", "7"])
    found = variant(options, rate=3.0, requests=50)
    assert (found.load, found.workload.mean_rate, found.workload.requests, found.workload.duration_s) == (
        None,
        3.0,
        50,
        None,
    )
    assert len(found.config.servers) == 7


def test_the_timeline_has_every_batch_where_it_was(tmp_path):
    """Slices are the batch log: no two overlap on a server, members add up, the counter never goes below 0."""
    cells = [Cell(name, parse(name), scenario_of("--requests", "400"), 0) for name in ("static", "multibin")]
    path = tmp_path / "t.json"
    chrome_trace.write_timeline(cells, path)
    events = json.loads(path.read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names == ["static, seed 0", "multibin, seed 0"]
    for process in (1, 2):
        slices = [event for event in events if event["ph"] == "X" and event["pid"] == process]
        assert sum(event["args"]["size"] for event in slices) == 400 + sum(e["args"]["preemptions"] for e in slices)
        threads = [e["tid"] for e in events if e["name"] == "thread_name" and e["pid"] == process]
        assert len(threads) == 4
        for thread in threads:
            own = sorted((e["ts"], e["ts"] + e["dur"]) for e in slices if e["tid"] == thread)
            assert own and all(a[1] <= b[0] for a, b in pairwise(own))
        level = [event["args"]["requests"] for event in events if event["ph"] == "C" and event["pid"] == process]
        assert min(level) >= 0 and level[-1] == 0 and max(level) > 1
    assert {e["cat"] for e in events if e["ph"] == "X" and e["pid"] == 1} == {"any"}
    assert {e["cat"] for e in events if e["ph"] == "X" and e["pid"] == 2} >= {"bin 0", "bin 3"}


def test_every_command_is_a_thin_entry():
    """A file at the root of eval/ holds no work: it imports the experiment and runs it."""
    entries = sorted((Path(levels.__file__).parents[1]).glob("*.py"))
    assert len(entries) >= 16
    for entry in entries:
        text = entry.read_text(encoding="utf-8")
        assert entry.name == "__init__.py" or (len(text.splitlines()) < 22 and text.count("from llmsched") == 2), entry
        assert "def " not in text and "class " not in text
