"""Logs of other tools: every format gives the same three requests, in seconds and tokens, and says what it lacks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval.analysis.client_log import ClientLog
from llmsched.eval.analysis.reading import choose_run, read_logs
from tests.project.pages import ROOT

SENT, PROMPT, OUTPUT = (100.0, 100.5, 102.0), (300, 40, 1200), (3, 1, 21)
TTFT, E2E = (0.25, 0.125, 1.5), (0.75, 0.125, 3.5)
"""Three requests."""


def gaps(row: int) -> list[float]:
    """The times between the tokens of a request."""
    return [(E2E[row] - TTFT[row]) / (OUTPUT[row] - 1)] * (OUTPUT[row] - 1) if OUTPUT[row] > 1 else []


def table(columns: dict[str, Any]) -> str:
    """A CSV text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue()


def bench(**more: Any) -> str:
    """As vLLM and SGLang save it; the last request failed."""
    found = {"backend": "vllm", "request_rate": 2.0, "input_lens": [*PROMPT, 9], "output_lens": [*OUTPUT, 0]}
    found |= {"ttfts": [*TTFT, 0.0], "itls": [gaps(0), gaps(1), gaps(2), []], "start_times": [*SENT, 103.0]} | more
    return json.dumps({key: value for key, value in found.items() if value is not None})


def guidellm(new: bool) -> str:
    """The report of a benchmark: older versions nest the times."""
    rows: list[dict[str, Any]] = []
    for row in range(3):
        lengths = {"prompt_tokens": PROMPT[row], "output_tokens": OUTPUT[row]}
        times = {"request_latency": E2E[row], "time_to_first_token_ms": 1e3 * TTFT[row]}
        start = {"request_start_time": SENT[row]}
        nested = {"scheduler_info": {"request_timings": {"request_start": SENT[row]}}}
        rows.append(lengths | times | (start if new else nested))
    return json.dumps({"benchmarks": [{"requests": {"successful": rows, "errored": [{}], "incomplete": []}}]})


def aiperf() -> str:
    """Lines: one of the warm-up, three, one that failed."""

    def line(row: int, phase: str = "profiling", error: Any = None) -> str:
        about = {"request_start_ns": int(1e9 * SENT[row]), "benchmark_phase": phase, "was_cancelled": False}
        metrics = {
            "time_to_first_token": {"value": 1e3 * TTFT[row], "unit": "ms"},
            "request_latency": {"value": E2E[row], "unit": "sec"},
            "input_sequence_length": {"value": PROMPT[row], "unit": "tokens"},
            "output_sequence_length": {"value": OUTPUT[row], "unit": "tokens"},
        }
        return json.dumps({"metadata": about, "metrics": metrics, "error": error})

    failed = line(0, error={"code": 500})
    return "\n".join([line(0, "warmup"), line(0), line(1), line(2), failed])


def inference_perf(new: bool) -> str:
    """A list; newer versions have the lengths in two parts."""
    rows = []
    for row in range(3):
        first = SENT[row] + TTFT[row]
        times = list(first + np.cumsum([0.0, *gaps(row)]))
        old = {"input_tokens": PROMPT[row], "output_tokens": OUTPUT[row], "output_token_times": times}
        parts = {
            "request_metrics": {"text": {"input_tokens": PROMPT[row]}},
            "response_metrics": {"output_tokens": OUTPUT[row], "output_token_times": times},
        }
        info = parts if new else old
        rows.append({"start_time": SENT[row], "end_time": SENT[row] + E2E[row] + 0.01, "info": info, "error": None})
    return json.dumps(rows)


def serving_sim(*, both: bool) -> str:
    """Nanoseconds; ``both``: the version whose output counts the prompt."""
    outputs = [p + o for p, o in zip(PROMPT, OUTPUT, strict=True)] if both else OUTPUT
    nano = {name: [int(1e9 * v) for v in values] for name, values in (("a", SENT), ("t", TTFT), ("e", E2E))}
    tpot = [int(1e9 * gaps(row)[0]) if gaps(row) else 0 for row in range(3)]
    columns = {"instance id": [0] * 3, "request id": range(3), "model": ["m"] * 3, "input": PROMPT, "output": outputs}
    columns |= {"arrival": nano["a"], "end_time": [0] * 3, "latency": nano["e"], "queuing_delay": [0] * 3}
    return table(columns | {"TTFT": nano["t"], "TPOT": tpot, "ITL": ["[]"] * 3})


def vidur() -> str:
    """Times since the arrival before, rows not in order of the request's number."""
    order = (2, 0, 1)
    gap = (0.0, 0.5, 1.5)
    columns: dict[str, Any] = {"Request Id": order, "request_e2e_time": [E2E[row] for row in order]}
    columns |= {"prefill_e2e_time": [TTFT[row] for row in order]}
    columns |= {"request_inter_arrival_delay": [gap[row] if row else "" for row in order]}
    columns |= {"request_num_prefill_tokens": [PROMPT[row] for row in order]}
    return table(columns | {"request_num_decode_tokens": [OUTPUT[row] for row in order]})


def gateway(names: tuple[str, str, str, str, str], factor: float = 1.0) -> str:
    """A CSV with these names of columns."""
    columns = (SENT, PROMPT, OUTPUT, TTFT, E2E)
    scaled = [[factor * v for v in values] if n in (0, 3, 4) else values for n, values in enumerate(columns)]
    return table(dict(zip(names, scaled, strict=True)))


def dated() -> str:
    """A gateway with dates and an end instead of a duration."""
    start = np.datetime64("2026-03-01T00:00:00")
    moments = [str(start + np.timedelta64(int(1e3 * s), "ms")) for s in SENT]
    ends = [str(start + np.timedelta64(int(1e3 * (s + e)), "ms")) for s, e in zip(SENT, E2E, strict=True)]
    columns: dict[str, Any] = {"created_at": moments, "input_tokens": PROMPT, "completion_tokens": OUTPUT}
    return table(columns | {"time_to_first_token_ms": [1e3 * t for t in TTFT], "finished_at": ends})


OWN = ("arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s")
FILES: dict[str, Callable[[], str]] = {
    "vllm.json": bench,
    "sglang.jsonl": lambda: bench(backend="sglang") + "\n",
    "guidellm_new.json": lambda: guidellm(True),
    "guidellm_old.json": lambda: guidellm(False),
    "aiperf.jsonl": aiperf,
    "inference_perf_old.json": lambda: inference_perf(False),
    "inference_perf_new.json": lambda: inference_perf(True),
    "serving_sim.csv": lambda: serving_sim(both=False),
    "serving_sim_both.csv": lambda: serving_sim(both=True),
    "vidur.csv": vidur,
    "own.csv": lambda: gateway(OWN),
    "gateway.csv": lambda: gateway(
        ("Start Time (ms)", "Input Tokens", "Completion Tokens", "TTFT (ms)", "Latency (ms)"), 1e3
    ),
    "dated.csv": dated,
}


def written(folder: Path, name: str, text: str) -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def one(path: Path, unit: str | None = None) -> ClientLog:
    """The only run of a file."""
    return choose_run(path, read_logs(path, unit), None)


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_requests(name: str, tmp_path: Path) -> None:
    """In seconds and tokens, from the first request on; what failed is left out and said."""
    log = one(written(tmp_path, name, FILES[name]()))
    run = log.run()
    assert log.timed
    np.testing.assert_allclose(run.requests.arrival_s, np.array(SENT) - SENT[0], atol=1e-6)
    np.testing.assert_array_equal(run.requests.prompt_tokens, PROMPT)
    np.testing.assert_array_equal(run.requests.output_tokens, OUTPUT)
    np.testing.assert_allclose(run.ttft_s, TTFT, atol=1e-6)
    np.testing.assert_allclose(run.e2e_s, E2E, atol=1e-6)
    if name in ("vllm.json", "aiperf.jsonl"):
        assert any("left out" in note for note in log.notes)
    assert any("counts the prompts" in note for note in log.notes) == (name == "serving_sim_both.csv")


def test_units_are_asked_for(tmp_path: Path) -> None:
    """Times without a unit are refused with both readings, and read with --unit."""
    path = written(tmp_path, "x.csv", gateway(("start", "input_tokens", "output_tokens", "ttft", "latency"), 1e3))
    with pytest.raises(ValueError, match=r"start_s or start_ms.*--unit"):
        read_logs(path, None)
    np.testing.assert_allclose(one(path, "ms").run().e2e_s, E2E, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", lambda: bench(start_times=None), "when each was sent is not known"),
        ("b.json", lambda: bench(itls=None), "--save-detailed"),
        ("c.json", lambda: bench(ttfts=[0.1]), "the file is not whole"),
        ("d.csv", lambda: table({"request_ids": [1], "ttft_times": [0.1], "response_times": [1], "prompt_sizes": [1],
                                 "token_sizes": [1]}), "no arrivals"),
        ("e.csv", lambda: "a,b\n1,2\n", "no column for"),
        ("f.csv", lambda: gateway(("arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "x")).replace("300", "x"),
         "row 1: prompt_tokens=x is no number"),
        ("g.csv", lambda: "ttft_s,arrival_s,ttft_s\n1,2,3\n", "several of its columns are named 'ttft_s'"),
        ("h.csv", lambda: gateway(OWN).replace("300", "9" * 400), "is no number"),
        ("i.json", lambda: bench(start_times=["a", "b", "c", "d"]), "request 1: arrival=a"),
        ("j.json", lambda: guidellm(True).replace(f"latency\": {E2E[1]}", "latency\": \"x\""), "request 2: e2e=x"),
        ("k.jsonl", lambda: aiperf() + "\n{\"metadata\": 3}", "line 6: a field is missing, or of another kind"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(name: str, text: Callable[[], str], said: str, tmp_path: Path) -> None:
    """In one line that names the file."""
    path = written(tmp_path, name, text())
    with pytest.raises(ValueError, match=said) as refusal:
        read_logs(path, None)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_sent_at_once(tmp_path: Path) -> None:
    """With an infinite rate and no limit the send times are known without being saved."""
    text = bench(backend="sglang", request_rate=float("inf"), start_times=None)
    assert np.ptp(one(written(tmp_path, "x.jsonl", text)).arrival_s) == 0.0
    with pytest.raises(ValueError, match="not all sent at once"):
        read_logs(
            written(tmp_path, "y.jsonl", bench(request_rate=float("inf"), max_concurrency=8, start_times=None)), None
        )


def test_several_runs_have_to_be_chosen(tmp_path: Path) -> None:
    """A file with two runs lists them; --run takes one."""
    path = written(tmp_path, "x.jsonl", bench() + "\n" + bench(request_rate=4.0))
    logs = read_logs(path, None)
    with pytest.raises(ValueError, match=r"2 runs.*--run N.*1: 3 requests"):
        choose_run(path, logs, None)
    assert choose_run(path, logs, 2).says["request_rate"] == 4.0


def test_traces_have_arrivals_only(tmp_path: Path) -> None:
    """What --workload reads is a log without times of tokens."""
    rows = "".join(f'{{"timestamp": {1000 * n}, "input_length": 7, "output_length": 3}}\n' for n in range(4))
    log = one(written(tmp_path, "mooncake.jsonl", rows))
    assert not log.timed and log.kind == "trace" and len(log.arrival_s) == 4


def test_the_case_of_a_failed_request() -> None:
    """The small benchmark file of the cases: 39 of its 40 requests were served."""
    path = ROOT.parent / "shared" / "cases" / "h11_vllm_bench_detailed.json"
    if not path.is_file():
        pytest.skip("the small inputs of the cases are not on this machine")
    assert len(one(path).run().requests) == 39
