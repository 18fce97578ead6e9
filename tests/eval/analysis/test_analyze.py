"""llmsched analyze: a log that a known server wrote is reproduced, and the answer is that of the known server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval import analyze
from llmsched.eval.analysis.answer import servers_sentence
from llmsched.eval.reality.log_fit import Coefficients, predict
from llmsched.eval.reality.log_replay import EngineSettings
from llmsched.eval.runs.intervals import Interval
from llmsched_env.requests import Requests

TRUE = Coefficients(d0=12.0, d1=0.25, d2=2e-4, p1=0.06, offset=20.0)
SERVER = ["--max-seqs", "64", "--token-budget", "1024", "--kv-tokens", "60000", "--tp", "2"]
LENGTHS = {"policies": ["--policies", "vllm,sjf"], "seeds": ["--seeds", "2"]}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that a server with the coefficients TRUE wrote: 240 requests, twice in overload."""
    rng = np.random.default_rng(3)
    count = 240
    sent = np.cumsum(rng.exponential(np.where(np.arange(count) % 120 < 60, 0.6, 0.25)))
    prompt, output = rng.integers(50, 1500, count), rng.integers(20, 500, count)
    requests = Requests.checked(sent - sent[0], prompt, output)
    seen = predict(requests, TRUE, EngineSettings(64, 1024.0, 60_000.0))
    path = tmp_path_factory.mktemp("log") / "server.csv"
    columns = (requests.arrival_s, prompt, output, seen.first_s - requests.arrival_s, seen.done_s - requests.arrival_s)
    rows = "\n".join(f"{a:.6f},{p},{o},{t:.6f},{e:.6f}" for a, p, o, t, e in zip(*columns, strict=True))
    path.write_text(f"arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n{rows}\n", encoding="utf-8")
    return path


def summary(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What --json prints."""
    assert analyze.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_known_server_is_recognised(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The held-out part is reproduced to a few percent; the profile that is kept has the settings and the offset; the
    simulation meets as many targets as the log did; and servers are counted in GPUs."""
    kept = tmp_path / "kept.json"
    words = [*LENGTHS["policies"], *LENGTHS["seeds"], "--goodput", "ttft:3000", "tpot:60"]
    found = summary(capsys, str(log), *SERVER, *words, "--write-profile", str(kept))
    errors = [
        row["error"] for row in found["tables"]["fit"] if row["part"] == "held out" and "p99" not in row["metric"]
    ]
    assert len(errors) == 6 and max(map(abs, errors)) < 0.05
    profile = json.loads(kept.read_text())
    assert profile == found["profile"] and profile["tensor_parallel"] == 2 and profile["kv_tokens"] == 60_000.0
    assert profile["engine_settings"]["max_seqs"] == 64 and profile["engine_settings"]["token_budget"] == 1024.0
    assert profile["client_offset_ms"] == pytest.approx(TRUE.offset, rel=0.5)
    answer = found["answer"]
    named = re.match(r"Run (\S+) on (\d+) servers? \((\d+) GPUs\)", answer[0])
    assert named and int(named[3]) == 2 * int(named[2])
    shares = [float(number) for number in re.findall(r"([\d.]+) %", answer[1])]
    assert len(shares) == 2 and abs(shares[0] - shares[1]) < 5
    assert "do not rely" not in answer[2]


@pytest.mark.slow
def test_a_wrong_setting_is_said(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a running set of 4 in place of 64 no coefficients reproduce the log, and the answer says so."""
    wrong = ["--max-seqs", "4", *SERVER[2:]]
    found = summary(capsys, str(log), *wrong, *LENGTHS["policies"], "--seeds", "1")
    assert "do not rely" in found["answer"][-1]


def test_what_the_log_does_not_say_is_asked(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it in one line; a log without times asks for a profile, all at once for a rate."""
    with pytest.raises(SystemExit) as refused:
        analyze.main([str(log), "--max-seqs", "64"])
    said = capsys.readouterr().err
    assert refused.value.code == 2 and len(said.splitlines()) == 1
    assert all(word in said for word in ("--token-budget", "--kv-tokens", "--tp")) and "--max-seqs N" not in said
    trace = log.with_name("trace.csv")
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n},9,9\n" for n in range(60)))
    with pytest.raises(SystemExit):
        analyze.main([str(trace)])
    assert "--profile NAME" in capsys.readouterr().err


def test_a_trace_with_a_profile_is_compared(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is fitted; the answer says that nothing was held against it."""
    trace = log.with_name("other.csv")
    trace.write_text(
        "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n / 2},90,{9 + n % 40}\n" for n in range(80))
    )
    words = [
        "--profile",
        "h100-80gb_llama2-70b_tp4",
        *LENGTHS["policies"],
        "--seeds",
        "1",
        "--goodput",
        "ttft:2000",
        "tpot:100",
    ]
    found = summary(capsys, str(trace), *words)
    assert found["profile"] is None and "fit" not in found["tables"]
    assert "nothing says how well" in found["answer"][-1] and re.match(
        r"Run \w+ on 1 server \(4 GPUs\)", found["answer"][0]
    )


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ((5, 4), "carry it with 95 % of all requests within goal.  vllm needs 5 (10 GPUs)."),
        ((4, 4), "Run vllm on 4 servers"),
        ((4, 5), "No other scheduler that was compared needs fewer."),
        ((None, 4), "vllm does not reach it with any number of servers."),
        ((None, None), "No number of servers carries it"),
    ],
)  # fmt: skip
def test_the_sentence(servers: tuple[int | None, int | None], said: str) -> None:
    """Fewest servers first; what runs now is kept where nothing needs fewer."""
    rows = [
        {"policy": name, "servers": count, "gpus": None if count is None else 2 * count, "met": Interval(0.96, 0.01)}
        for name, count in zip(("vllm", "sjf"), servers, strict=True)
    ]
    assert said in servers_sentence(rows, 0.95, "goal", "it", "vllm")
