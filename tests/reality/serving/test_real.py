"""eval/real.py against servers without a model: what it measures is what they do, and no request is lost unsaid."""

from __future__ import annotations

import asyncio
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from llmsched.eval import real
from llmsched.eval.reality.serving.client import Served, Target, as_row, from_row, send_all
from llmsched.eval.reality.serving.experiment import remarks
from llmsched.eval.reality.serving.measures import failures, measures
from llmsched.eval.reality.serving.vllm_server import VllmServer
from llmsched.eval.runs.client_times import meets, tpot_s
from llmsched_env.config import SLO
from llmsched_env.requests import Requests
from tests.faults.tools import run
from tests.reality.serving.fake import FIRST_S, GAP_S, Fake, serving

SMALL = ["--engine", "continuous", "--requests", "12", "--rate", "200", "--seeds", "2"]
LATE_S = 2.0
"""What a busy machine may add to a time."""


def served(requests: Requests, fake: Fake, timeout_s: float = 20.0) -> list[Served]:
    """What the client sees of ``requests``."""
    return asyncio.run(send_all(Target(fake.url, "tiny"), requests, seed=1, timeout_s=timeout_s))


def some(n: int, output: int = 5, gap_s: float = 0.01) -> Requests:
    """``n`` requests of ``output`` tokens."""
    return Requests.checked(gap_s * np.arange(n), 7 + np.arange(n), np.full(n, output))


def test_times_are_those_of_the_stream() -> None:
    """TTFT, the gaps and the end; prompts have as many tokens as asked, and differ."""
    with serving(Fake()) as fake:
        rows = served(some(4, 6), fake)
    for place, row in enumerate(rows):
        assert row.error == "" and row.tokens == 6 and len(row.gaps) == 5
        assert 0.01 * place <= row.sent <= row.first <= row.last
        assert FIRST_S <= row.first - row.sent <= FIRST_S + LATE_S
        assert 4 * GAP_S <= row.last - row.first and sum(row.gaps) == pytest.approx(row.last - row.first)
    prompts = sorted((body["prompt"] for body in fake.bodies), key=len)
    assert list(map(len, prompts)) == [7, 8, 9, 10] and prompts[0] != prompts[1][:7]
    assert all(body["stream"] and body["ignore_eos"] and body["max_tokens"] == 6 for body in fake.bodies)


def test_requests_are_sent_at_their_times_whatever_the_others_do() -> None:
    """The first is never answered, and the others do not wait for it."""
    with serving(Fake(n0="slow")) as fake:
        rows = served(some(10, 3), fake, timeout_s=3.0)
    assert rows[0].error == "timeout" and math.isnan(rows[0].first)
    assert all(row.error == "" and row.sent - row.due < LATE_S for row in rows[1:])


FAULTS = {
    "refused": "HTTP 503",
    "no stream": "no stream",
    "garbage": "CannotReadError",
    "deep": "CannotReadError",
    "no end": "cut off",
    "cut off": "ClientPayloadError",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_miss_and_the_others_go_on(fault: str) -> None:
    """Its reason is kept."""
    with serving(Fake(n1=fault)) as fake:
        rows = served(some(4), fake)
    assert [row.error for row in rows].count("") == 3
    (row,) = [row for row in rows if row.error]
    assert row.error in (FAULTS[fault], "cut off")
    found = measures(rows, [SLO()], [0] * 4)
    assert found["slo_attainment"] == 0.75 and found["failed"] == 0.25
    assert failures(rows) == f"1 x {row.error}"


@pytest.mark.parametrize("count", ["-5", "true", "1e400", "2.5", "null", '"x"', "1" * 200, "[3]"])
def test_a_number_of_tokens_that_is_none_is_not_believed(count: str) -> None:
    """The events count instead."""
    with serving(Fake(n1=f"count {count}")) as fake:
        rows = served(some(3), fake)
    assert all(row.error == "" and row.tokens == len(row.gaps) + 1 for row in rows)
    assert math.isfinite(measures(rows, [SLO()], [0] * 3)["mean_tpot_s"])


MODELS = {"deep": b"[" * 10**6, "long": b" " * 2**23, "no list": b"{}", "no text": b"\xff", "a number": b"9" * 5000}


@pytest.mark.parametrize("kind", MODELS)
def test_a_list_of_models_that_is_none_is_refused(kind: str) -> None:
    """In one line, in bounded work."""
    with serving(Fake()) as fake:
        fake.list_of_models = MODELS[kind]
        command("--endpoint", fake.url).refused("names no model")


def test_nobody_listens() -> None:
    """Every request is a miss; nothing is raised."""
    rows = asyncio.run(send_all(Target("http://127.0.0.1:9/v1", "x"), some(3), seed=0, timeout_s=5.0))
    assert measures(rows, [SLO()], [0] * 3)["failed"] == 1.0
    assert "3 x " in failures(rows)


def test_measures_are_counted_from_when_a_request_was_due() -> None:
    """Targets of its class; a client that is late makes no server look better."""
    rows = [
        Served(0.0, 0.0, 1.0, 3.0, 5, [0.5] * 4),
        Served(1.0, 3.0, 3.5, 4.0, 2, [0.5]),
        Served(2.0, 2.0, error="timeout"),
    ]
    slos = [SLO(ttft_s=1.0, tpot_s=0.5, share=0.5), SLO(ttft_s=2.0, share=0.5, name="b")]
    found = measures(rows, slos, [0, 1, 0])
    assert found["slo_attainment"] == pytest.approx(1 / 3) and found["mean_ttft_s"] == pytest.approx(1.75)
    assert found["mean_e2e_s"] == pytest.approx(3.0) and found["throughput"] == pytest.approx(0.5)
    assert found["goodput"] == pytest.approx(0.25) and found["mean_tpot_s"] == pytest.approx(0.5)
    said = remarks(rows)
    assert "1 x timeout" in said[0] and "late with 1 requests" in said[1]
    assert from_row(json.loads(json.dumps(as_row(rows))))[1] == rows[1]


def command(*words: Any) -> Any:
    """What the command says."""
    return run(*SMALL, *words, main=real.main)


def test_two_servers_in_turn_and_a_restart(tmp_path: Path) -> None:
    """A B A B with the same requests; a second start takes the runs from the file, one more repeat is added."""
    out = tmp_path / "out"
    with serving(Fake(n3="refused")) as one, serving(Fake()) as two:
        words = ["--endpoint", f"a={one.url}", f"b={two.url}", "--out", out]
        first = command(*words)
        assert first.code == 0 and "a, repeat 0: failed, and counted as misses: 1 x HTTP 503" in first.out
        assert len(one.bodies) == len(two.bodies) == 24
        key = lambda body: (len(body["prompt"]), body["max_tokens"], body["prompt"][:3])  # noqa: E731
        assert sorted(map(key, one.bodies)) == sorted(map(key, two.bodies))
        again = command(*words)
        assert len(one.bodies) == 24 and again.out == first.out
        with (out / "results.csv").open() as file:
            assert [row["policy"] for row in csv.DictReader(file)] == ["a", "b"] * 2
        assert command(*words, "--seeds", "3").code == 0 and len(one.bodies) == len(two.bodies) == 36
    found = json.loads((out / "summary.json").read_text())
    assert found["experiment"] == "real" and len(found["tables"]["differences"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--endpoint is missing"),
        (["--endpoint", "ftp://x"], "is no address"),
        (["--endpoint", "http://127.0.0.1:9/v1"], "no server answers"),
        (["--endpoint", "a=http://x", "a=http://y"], "differ from each other"),
        (["--backend", "vllm"], "--model is missing"),
        (["--backend", "vllm", "--model", "m", "--endpoint", "http://x"], "drop one"),
        (["--backend", "vllm", "--model", "m", "--python", "/nowhere/python"], "cannot be started"),
        (["--backend", "vllm", "--model", "m", "--settings", "/nowhere.json"], "there is no such file"),
        (["--backend", "vllm", "--model", "m", "--python", "false", "--policies", "statik"], "Did you mean static?"),
        (["--backend", "vllm", "--model", "m", "--python", "false"], "vLLM ended as it started"),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    """One line each."""
    command(*words).refused(said)


STANDS_FOR_VLLM = """#!{python}
import http.server, sys, os
port = int(sys.argv[sys.argv.index("--port") + 1])
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        if {dies}: os._exit(1)
        n = int(self.headers["Content-Length"]); self.rfile.read(n)
        self.send_response(200); self.send_header("Content-Type", "text/event-stream"); self.end_headers()
        self.wfile.write(b'data: {{"choices": [{{"text": "x"}}]}}\\n\\ndata: [DONE]\\n\\n')
    def log_message(self, *_): print(os.environ.get("LLMSCHED_VLLM"), flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def stand_in(folder: Path, dies: str = "False") -> Path:
    """A program that takes the arguments of vLLM's server, and answers with one token."""
    import sys

    file = folder / "python"
    file.write_text(STANDS_FOR_VLLM.format(python=sys.executable, dies=dies))
    file.chmod(0o755)
    return file


def test_a_server_is_started_for_every_policy(tmp_path: Path) -> None:
    """With its settings, and ended after the run."""
    words = ["--backend", "vllm", "--model", "m", "--policies", "vllm-own,sjf", "--python", stand_in(tmp_path)]
    found = command(*words, "--out", tmp_path / "out", "--seeds", "1")
    assert found.code == 0 and "failed, and" not in found.out
    settings = json.loads((tmp_path / "out/servers/1/settings.json").read_text())
    assert settings == {"policy": "sjf"} and not (tmp_path / "out/servers/0/settings.json").exists()


def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    """And it is said; what it had is missed."""
    dies = f"not os.path.exists({str(tmp_path / 'died')!r}) and not open({str(tmp_path / 'died')!r}, 'w').close()"
    words = ["--backend", "vllm", "--model", "m", "--policies", "vllm-own", "--python", stand_in(tmp_path, dies)]
    found = command(*words, "--seeds", "1", "--rate", "4")
    assert found.code == 0 and "was started again" in found.out and "counted as misses" in found.out


def test_a_server_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """Its process is gone."""
    server = VllmServer(str(stand_in(tmp_path)), "m", "", "vllm-own", {}, tmp_path / "s")
    server.start()
    assert server.alive
    server.stop()
    assert not server.alive


def test_runs_under_a_policy_that_has_changed_are_made_again(tmp_path: Path) -> None:
    """The code of a policy is part of what names a run."""
    file, answer = tmp_path / "mine.py", "def mine(record, params, memory, rng):\n    return record.num_bins, {size}\n"
    words = ["--backend", "vllm", "--model", "m", "--policies", f"{file}:mine", "--python", stand_in(tmp_path)]
    runs = []
    for size in (4, 4, 8):
        file.write_text(answer.format(size=size))
        assert command(*words, "--out", tmp_path / "out", "--seeds", "1").code == 0
        runs.append(len((tmp_path / "out" / "real.jsonl").read_text().splitlines()))
    assert runs[0] == runs[1] == runs[2] - 1


def test_where_all_fail_nothing_is_in_time() -> None:
    """Shares and rates are 0, not missing."""
    found = measures([Served(0.0, sent=0.0, error="timeout"), Served(1.0)], [SLO(e2e_s=1.0)], [0, 0])
    assert (found["slo_attainment"], found["goodput"], found["failed"]) == (0.0, 0.0, 1.0)


def test_targets_of_what_a_client_saw() -> None:
    """By class; one token has no time per token, a missing time meets nothing."""
    ttft, e2e, tokens = [0.5, 0.5, np.nan, 0.5], [2.5, 2.5, 1.0, 9.0], [5, 5, 5, 1]
    slos = [SLO(tpot_s=0.5, share=0.5, name="a"), SLO(tpot_s=0.4, share=0.5, name="b")]
    assert tpot_s(ttft, e2e, tokens)[[0, 1, 3]].tolist() == [0.5, 0.5, 0.0]
    assert meets(ttft, e2e, tokens, slos, [0, 1, 0, 1]).tolist() == [True, False, False, True]
