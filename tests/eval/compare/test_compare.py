"""eval/compare.py end to end on small runs: table, JSON, files, refusals, Ctrl-C."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmsched.eval.compare import main
from llmsched.eval.experiments import compare
from llmsched.eval.figures import style
from llmsched.eval.scenarios.variants import OF_2023
from llmsched.policies import names
from llmsched_env.simulation.metrics import KEYS, LATENCIES, STATISTICS

ROOT = Path(__file__).parents[3]
SMALL = ["--requests", "300", "--seeds", "2"]

CONTRACT = {  # what a script may rely on
    *("policy", "completed", "rejected", "dropped", "unfinished", "preemptions", "slo_attainment"),
    *("request_goodput", "request_throughput", "output_throughput", "total_token_throughput"),
    *(f"{statistic}_{latency}_ms" for statistic in STATISTICS for latency in LATENCIES),
    *("mean_queue_ms", "mean_batch_size", "gpu_utilization", "peak_kv_utilization", "decisions"),
    *("simulated_s", "wall_s", "ci95", "paired"),
}


def summary_of(capsys: pytest.CaptureFixture, *options: str) -> dict:
    """The JSON that compare prints with these options."""
    assert main([*options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def by_policy(summary: dict) -> dict[str, dict]:
    return {policy["policy"]: policy for policy in summary["policies"]}


def timeless(summary: dict) -> dict:
    """The summary without wall-clock times."""
    for policy in summary["policies"]:
        del policy["wall_s"]
    return summary


def test_the_table_has_a_row_per_policy_intervals_and_differences(capsys):
    assert main(["--policies", "static,dynamic,multibin", *SMALL]) == 0
    out, err = capsys.readouterr()
    above, below = out.split("difference from static, paired by seed")
    for policy in ("static", "dynamic", "multibin"):
        assert sum(line.startswith(f"{policy} ") for line in above.splitlines()) == 1
    assert not any(line.startswith("static ") for line in below.splitlines())
    assert "±" in above and "*" in above
    assert "= 8 GPUs" in above and "rejected, dropped and unfinished requests are misses" in below
    assert err == ""


def test_the_table_fits_120_columns_with_every_policy(capsys):
    assert main(["--policies", ",".join(names("batch")), *SMALL]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 120
    assert "clairvoyant" in out


def test_one_seed_prints_no_interval(capsys):
    assert main(["--requests", "300", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "±" not in out and "One seed: no interval" in out
    found = summary_of(capsys, "--requests", "300", "--seeds", "1")
    assert set(found["policies"][1]["ci95"].values()) == {None}
    assert found["policies"][1]["paired"]["slo_attainment"]["ci95"] is None


def test_json_has_the_contract_and_nothing_else_on_standard_output(capsys):
    found = summary_of(capsys, *SMALL)
    assert [policy["policy"] for policy in found["policies"]] == ["static", "dynamic", "multibin"]
    for policy in found["policies"]:
        assert set(policy) >= CONTRACT | set(KEYS)
        assert policy["submitted"] == 600 == policy["completed"] + policy["rejected"] + policy["dropped"]
    assert found["policies"][0]["paired"] == {}
    assert found["scenario"]["gpus"] == 8 and found["scenario"]["seeds"] == [0, 1]
    assert found["scenario"]["slo_classes"][0]["targets_ms"] == {"e2el": 4000.0}


def test_counts_are_sums_over_seeds_and_the_rest_are_means(capsys):
    both = by_policy(summary_of(capsys, *SMALL))["multibin"]
    alone = [
        by_policy(summary_of(capsys, "--requests", "300", "--seeds", "1", "--seed", seed))["multibin"] for seed in "01"
    ]
    for key in ("completed", "decisions", "preemptions"):
        assert both[key] == alone[0][key] + alone[1][key]
    for key in ("slo_attainment", "mean_e2el_ms", "p99_ttft_ms", "simulated_s"):
        assert both[key] == pytest.approx((alone[0][key] + alone[1][key]) / 2, rel=1e-12)
    assert [b["misses"] for b in both["per_bin"]] == [
        a["misses"] + b["misses"] for a, b in zip(alone[0]["per_bin"], alone[1]["per_bin"], strict=True)
    ]


def test_differences_are_of_the_same_seeds(capsys):
    found = by_policy(summary_of(capsys, *SMALL))
    alone = [by_policy(summary_of(capsys, "--requests", "300", "--seeds", "1", "--seed", seed)) for seed in "01"]
    gaps = [one["multibin"]["mean_e2el_ms"] - one["static"]["mean_e2el_ms"] for one in alone]
    paired = found["multibin"]["paired"]["mean_e2el_ms"]
    assert paired["difference"] == pytest.approx(sum(gaps) / 2)
    assert paired["ci95"] == pytest.approx(12.7062047 * abs(gaps[0] - gaps[1]) / 2)  # t(0.975, 1) s / sqrt(2)


def test_every_policy_gets_the_same_arrivals(capsys):
    found = by_policy(summary_of(capsys, "--policies", "static,static:batch=8", *SMALL))
    gaps = found["static:batch=8"]["paired"]  # the same policy twice: every difference is exactly 0
    assert {(gap["difference"], gap["ci95"]) for gap in gaps.values()} == {(0.0, 0.0)}


def test_results_do_not_depend_on_jobs(capsys):
    options = ["--policies", "static:batch=auto,multibin,random", *SMALL]
    one, two = (timeless(summary_of(capsys, *options, "--jobs", jobs)) for jobs in ("1", "2"))
    assert one == two


@pytest.mark.parametrize(
    "factors", [("--overdue-factor", "1.25"), ("--overdue-factor", "1.25", "--overdue-batch-factor", "0.8")]
)
def test_late_requests_change_who_is_served(capsys, factors):
    """Under overload; the same factors twice are the same run."""
    system = ("--policies", "static", "--requests", "400", "--seeds", "1", "--rate", "12")
    plain, first, again = (timeless(summary_of(capsys, *system, *more)) for more in ((), factors, factors))
    assert first == again
    assert by_policy(first)["static"] != by_policy(plain)["static"]


def test_another_seed_gives_other_results(capsys):
    one, two = (timeless(summary_of(capsys, *SMALL, "--seed", seed)) for seed in ("0", "7"))
    assert one["policies"] != two["policies"]


def test_out_leaves_rows_summary_figures_and_how_they_were_made(capsys, tmp_path):
    folder = tmp_path / "new" / "results"
    assert main(["--policies", "static,multibin", *SMALL, "--out", str(folder)]) == 0
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["policy"], row["seed"]) for row in rows] == [
        ("static", "0"),
        ("static", "1"),
        ("multibin", "0"),
        ("multibin", "1"),
    ]
    summary = json.loads((folder / "summary.json").read_text())
    for policy in summary["policies"]:
        own = [row for row in rows if row["policy"] == policy["policy"]]
        assert sum(float(row["slo_attainment"]) for row in own) / 2 == pytest.approx(policy["slo_attainment"])
        assert sum(int(row["bin3_misses"]) for row in own) == policy["per_bin"][3]["misses"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["command"][:2] == ["python", "eval/compare.py"] and manifest["seeds"] == [0, 1]
    assert manifest["versions"]["numba"] and manifest["machine"]["cores"] >= 1
    images = sorted(path.name for path in (folder / "figures").iterdir())
    assert images == ["bins.png", "latency.png", "latency_cdf.png", "slo_attainment.png", "timeline.png"]
    assert all((folder / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in images)


def test_without_matplotlib_the_rest_is_written_and_a_line_says_what_is_missing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "available", lambda: False)
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "summary.json", "manifest.json", "cells.jsonl"}
    assert capsys.readouterr().err == style.HINT + "\n"


def test_undefined_values_are_null_in_json(capsys):
    found = summary_of(capsys, "--workload", "uniform", "--profile", "ideal", "--goodput", "e2el:1e-9", *SMALL)
    assert "NaN" not in json.dumps(found)
    assert found["policies"][0]["jain_index"] is None  # no request met the target in any bin


def test_a_trace_brings_its_own_rate_and_size(capsys, tmp_path):
    trace = tmp_path / "mine.csv"
    lines = [f"{0.5 * i},{10 + i % 7},{5 + i % 11}" for i in range(200)]
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    found = summary_of(capsys, "--workload", str(trace), "--seeds", "2")
    assert found["scenario"]["rate"] == pytest.approx(2.0) and found["scenario"]["warmup_requests"] == 20
    assert {policy["submitted"] for policy in found["policies"]} == {2 * 180}  # the first tenth is not scored
    assert found["notes"][0].startswith("Trace: each seed starts it at another row")
    assert "same rows" not in found["notes"][0]  # nothing was chosen
    slow = summary_of(capsys, "--workload", str(trace), "--rate-scale", "0.5", "--requests", "100")
    assert slow["scenario"]["rate"] == pytest.approx(1.0) and slow["policies"][0]["submitted"] == 5 * 90


def test_what_was_changed_in_a_trace_and_what_was_chosen_on_it_is_said(capsys, tmp_path):
    trace = tmp_path / "mine.csv"
    rows = [f"{0.5 * (40 - i)},{10 + i % 7},{(5 + i) * (i != 3)}" for i in range(40)]
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    notes = summary_of(capsys, "--workload", str(trace), "--policies", "static:batch=auto", "--seeds", "1")["notes"]
    (about,) = [note for note in notes if note.startswith("Trace: ")]
    assert "1 of 40 rows dropped" in about and "rows were not in order of arrival: sorted" in about
    assert "chosen on the same rows" in about


def test_options_of_the_user_go_before_those_of_the_scenario(capsys):
    found = summary_of(capsys, "--scenario", "memory", "--gpus", "2", "--bins", "(0,100)", "--rate", "0.3", *SMALL)
    assert found["scenario"]["servers"] == 2 and found["scenario"]["bin_edges"] == [100]
    assert (
        found["scenario"]["profile"] == "a100-80gb_bloom-176b_tp8" and found["scenario"]["kv_tokens"] == [51717.0] * 2
    )
    other = summary_of(capsys, "--scenario", "memory", "--profile", "synthetic", *SMALL)
    assert other["scenario"]["kv_tokens"] == ["inf"] * 4


def test_in_the_scenario_memory_memory_binds_and_policies_differ(capsys):
    found = by_policy(summary_of(capsys, "--scenario", "memory", "--requests", "5000", "--seeds", "2"))
    assert found["dynamic"]["peak_kv_utilization"] > 0.99 and found["dynamic"]["preemptions"] > 0
    share = [found[policy]["slo_attainment"] for policy in ("static", "dynamic", "multibin")]
    assert share[0] + 0.1 < share[1] < share[2] - 0.1


def test_a_controller_target_that_is_refused_is_said_once(capsys):
    assert main([*SMALL, *OF_2023, "--goodput", "tpot:20"]) == 0
    assert capsys.readouterr().out.count("target time between tokens 20 ms is refused") == 1


REFUSED = {
    "policy": (["--policies", "statik"], "statik", "static"),
    "policy parameter": (["--policies", "static:batsh=3"], "batsh", "batch"),
    "batch 0": (["--policies", "static:batch=0"], "batch=0", "1"),
    "policy twice": (["--policies", "static,static"], "static", "once"),
    "workload": (["--workload", "azure-konv"], "azure-konv", "azure-conv"),
    "workload file": (["--workload", "no/such.csv"], "no/such.csv", "no such file"),
    "profile": (["--profile", "h100-80gb_lama2-70b_tp4"], "h100-80gb_lama2-70b_tp4", "h100-80gb_llama2-70b_tp4"),
    "option": (["--polices", "static"], "--polices", "--policies"),
    "abbreviation": (["--req", "10"], "--req", "--requests"),
    "scenario": (["--scenario", "memorie"], "memorie", "memory"),
    "rate 0": (["--rate", "0"], "'0'", "above 0"),
    "rate negative": (["--rate", "-1"], "-1", "above 0"),
    "rate NaN": (["--rate", "nan"], "nan", "above 0"),
    "rate text": (["--rate", "fast"], "fast", "number above 0"),
    "rate and load": (["--rate", "1", "--load", "1"], "--load", "not allowed with"),
    "requests 0": (["--requests", "0"], "'0'", "from 1"),
    "duration": (["--duration", "0"], "'0'", "above 0"),
    "servers 0": (["--servers", "0"], "'0'", "from 1 to 128"),
    "gpus 0": (["--gpus", "0"], "'0'", "from 1 to 128"),
    "max batch 0": (["--max-batch", "0"], "'0'", "from 1 to 1024"),
    "max batch half": (["--max-batch", "2.5"], "2.5", "whole number"),
    "bins 0": (["--bins", "0"], "'0'", "from 1 to 32"),
    "bins descending": (["--bins", "(0,64,32)"], "(0,64,32)", "ascending"),
    "kv tokens": (["--kv-tokens", "0"], "'0'", "inf"),
    "goodput key": (["--goodput", "e2e:100"], "e2e:100", "e2el"),
    "goodput without a time": (["--goodput", "e2el"], "'e2el' has no time", "give e2el:MS"),
    "goodput time": (["--goodput", "e2el:0"], "e2el:0", "above 0 ms"),
    "goodput twice": (["--goodput", "e2el:1", "e2el:2"], "e2el", "once"),
    "slo class": (["--slo-classes", "chat"], "chat", "NAME=SHARE"),
    "slo shares": (["--slo-classes", "chat=0.5,e2el:1000"], "0.5", "1"),
    "slo class twice": (["--slo-classes", "a=0.5,e2el:1000", "a=0.5,ttft:9"], "a is given 2 times", "another name"),
    "predictor": (["--predictor", "oracel"], "oracel", "oracle"),
    "release": (["--release", "batsh"], "batsh", "batch"),
    "discipline": (["--discipline", "fif"], "fif", "fifo"),
    "clairvoyant discipline": (["--discipline", "oracle-sjf"], "oracle-sjf", "sjf"),
    "overdue factor text": (["--overdue-factor", "soon"], "soon", "from 0"),
    "overdue batch factor alone": (
        ["--overdue-batch-factor", "1"],
        "overdue_batch_factor=1.0",
        "give overdue_factor too",
    ),
    "a bin too many": (["--bins", "33"], "33", "to 32"),
    "overdue where members are preempted": (
        ["--engine", "continuous", "--policies", "oracle-srpt", "--overdue-factor", "1"],
        "overdue_factor",
        "drop one",
    ),
    "controller": (["--controller", "pear"], "pear", "peer"),
    "controller key": (["--controller", "paper:tbd=50"], "tbd=50", "tbt"),
    "burstiness": (["--burstiness", "0"], "'0'", "above 0"),
    "seeds 0": (["--seeds", "0"], "'0'", "from 1"),
    "seed negative": (["--seed", "-1"], "-1", "from 0 to 4294967295"),
    "jobs 0": (["--jobs", "0"], "'0'", "from 1"),
    "hopeless load": (["--load", "1", "--goodput", "e2el:1", "--requests", "50"], "--load", "capacity"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line_with_value_and_remedy(case, capsys):
    options, value, remedy = REFUSED[case]
    assert_refused(capsys, options, value, remedy)


BAD_TRACES = {
    "empty": ("", "empty"),
    "header only": ("arrival_s,prompt_tokens,output_tokens\n", "no"),
    "negative time": ("arrival_s,prompt_tokens,output_tokens\n-1,5,5\n1,5,5\n", "-1"),
    "NaN time": ("arrival_s,prompt_tokens,output_tokens\nnan,5,5\n1,5,5\n", "1"),
    "negative tokens": ("arrival_s,prompt_tokens,output_tokens\n0,-5,5\n1,5,5\n", "-5"),
    "unknown columns": ("when,in,out\n0,5,5\n1,5,5\n", "arrival_s"),
    "nothing left": ("arrival_s,prompt_tokens,output_tokens\n0,5,0\n1,5,0\n", "0"),
}


@pytest.mark.parametrize("case", BAD_TRACES)
def test_a_bad_trace_is_refused_in_one_line(case, capsys, tmp_path):
    text, said = BAD_TRACES[case]
    trace = tmp_path / "bad.csv"
    trace.write_text(text)
    assert_refused(capsys, ["--workload", str(trace)], "bad.csv", said)


def test_output_that_cannot_be_written_is_refused_before_the_work(capsys, tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(compare, "prepare", never)
    (tmp_path / "file").write_text("")
    assert_refused(capsys, ["--out", str(tmp_path / "file" / "results")], "file", "folder")
    assert_refused(capsys, ["--out", str(tmp_path / "file")], "file", "folder")


def assert_refused(capsys: pytest.CaptureFixture, options: list[str], *said: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that says all of ``said``."""
    with pytest.raises(SystemExit) as stop:
        main(options)
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("compare.py: error: ")
    for text in said:
        assert text in err, err


def test_it_runs_from_a_checkout_and_refuses_without_a_traceback(tmp_path):
    command = [sys.executable, str(ROOT / "eval" / "compare.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    good = subprocess.run(
        [*command, "--requests", "100", "--seeds", "1"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (good.returncode, good.stderr) == (0, "") and "multibin" in good.stdout
    bad = subprocess.run([*command, "--rate", "0"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "Traceback" not in bad.stderr


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_has_finished_and_exits_130(tmp_path, jobs):
    options = ["--requests", "20000", "--seeds", "10000", "--jobs", jobs, "--out", str(tmp_path)]
    command = [sys.executable, str(ROOT / "eval" / "compare.py"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results = tmp_path / "results.csv"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not results.exists() or results.read_text().count("\n") < 8):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    *progress, last = err.splitlines()  # where it had to compile there are lines of progress
    assert last.startswith("compare.py: interrupted") and all(line.startswith("comparing: ") for line in progress)
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = results.read_text().count("\n") - 1
    assert summary["interrupted"] and rows == sum(len(policy["seeds"]) for policy in summary["policies"]) >= 7
    assert f"Interrupted: {rows} of 30000 runs" in out and "static" in out
    assert math.isfinite(summary["policies"][0]["slo_attainment"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 // (record.num_bins - record.num_bins), 5", "ZeroDivisionError"),
        ("return record.queue_length[50000], 5", "IndexError"),
        ("return -1, 5", "answered bin -1, size 5"),
        ("return 0, -2", "answered bin 0, size -2"),
    ],
)
def test_a_policy_that_fails_is_one_line(tmp_path, body, message):
    """The user's code stops: exit 2, one line that names the policy, the time and the error."""
    (tmp_path / "bad.py").write_text(f"def mine(record, params, memory, rng):\n    {body}\n")
    run = subprocess.run(
        [sys.executable, str(ROOT / "eval/compare.py"), "--policies", "static,bad.py:mine", "--requests", "50"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    (line,) = run.stderr.strip().splitlines()
    assert "bad.py:mine" in line and message in line


def test_output_that_nobody_reads(tmp_path):
    """`compare.py | head -1` ends without a traceback."""
    command = f"{sys.executable} {ROOT / 'eval/compare.py'} --policies static --requests 50 --seeds 1 | head -1"
    run = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in run.stderr and run.stdout.startswith("default:")
