"""A real vLLM server: requests over HTTP under three schedulers; killed and started again; nothing is lost unsaid."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_LOGGING_LEVEL="ERROR")
pytest.importorskip("vllm")
pytest.importorskip("aiohttp")

from llmsched.eval.reality.serving.client import Served
from llmsched.eval.reality.serving.entrant import Entrant
from llmsched.eval.reality.serving.experiment import run_once, started
from llmsched.eval.reality.serving.vllm_server import OWN_ORDER
from llmsched.eval.reality.steps.reading import read_log
from llmsched.eval.reality.vllm.tiny_model import write_model
from llmsched_env.requests import Requests

REQUESTS, RATE = 200, 15.0
WORDS = (
    "--dtype float32 --max-model-len 512 --max-num-seqs 16 --max-num-batched-tokens 256 --enforce-eager "
    "--no-enable-prefix-caching --num-gpu-blocks-override 65 --disable-uvicorn-access-log"
)
TIMEOUT_S = 120.0
KILLED_AFTER_S = 4.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    return write_model(tmp_path_factory.mktemp("model"))


def drawn() -> Requests:
    """Short requests, Poisson arrivals, predictions that are wrong."""
    rng = np.random.default_rng(5)
    arrival = np.cumsum(rng.exponential(1.0 / RATE, REQUESTS))
    prompt, output = rng.integers(4, 120, REQUESTS), rng.integers(2, 24, REQUESTS)
    return Requests.checked(arrival, prompt, output, np.maximum(1, output + rng.integers(-3, 4, REQUESTS)))


def entrant(policy: str, model: Path, folder: Path) -> Entrant:
    """A server with a policy, not yet started."""
    words = argparse.Namespace(python=sys.executable, model=str(model), server_args=WORDS, prompts="ids")
    settings = {} if policy == OWN_ORDER else {"bins": [0, 8, 16]}
    return started(policy, words, settings, folder, folder / "steps.jsonl", {"VLLM_CPU_KVCACHE_SPACE": "1"})


def conserved(rows: list[Served], requests: Requests) -> int:
    """Every request is answered in full or has failed with a reason; how many were answered."""
    assert len(rows) == len(requests)
    for row, tokens in zip(rows, requests.output_tokens.tolist(), strict=True):
        assert row.sent >= row.due
        if row.error:
            continue
        assert row.tokens == tokens and row.sent < row.first <= row.last
    return sum(not row.error for row in rows)


@pytest.mark.parametrize("policy", [OWN_ORDER, "static:batch=16", "sjf:batch=16"])
def test_every_request_is_served_once(policy: str, model: Path, tmp_path: Path) -> None:
    """By the client's count and by the server's: as many prompts and tokens as were asked for, and no more."""
    requests = drawn()
    rows, notes = run_once(entrant(policy, model, tmp_path), requests, 1, TIMEOUT_S)
    assert conserved(rows, requests) == REQUESTS and notes == []
    log = read_log(tmp_path / "steps.jsonl")
    assert len(log.requests) == REQUESTS
    assert sum(step.work.tokens for step in log.steps) == requests.prompt_tokens.sum()
    assert sum(step.work.members for step in log.steps) == (requests.output_tokens - 1).sum()


def test_a_server_that_is_killed_is_started_again(model: Path, tmp_path: Path) -> None:
    """What it had is a miss with a reason, a note says so, and the next requests are served."""
    requests, one = drawn(), entrant("sjf:batch=16", model, tmp_path)
    server = one.server
    assert server is not None
    server.start()
    try:
        killer = threading.Timer(KILLED_AFTER_S, lambda: os.killpg(server.session, signal.SIGKILL))
        killer.daemon = True
        rows, notes = run_once(one, requests, 1, TIMEOUT_S, keep=True, note_start=lambda _: killer.start())
        answered = conserved(rows, requests)
        assert 0 < answered < REQUESTS
        assert all(row.error for row in rows if row.sent > KILLED_AFTER_S + 1.0 and row.sent < KILLED_AFTER_S + 5.0)
        assert any("started again" in note for note in notes)
        end = time.monotonic() + 300.0
        while server.starts < 2 or not server.alive:
            assert time.monotonic() < end, "it was not started again"
            time.sleep(0.5)
        server.wait()
        again, _ = run_once(one, requests, 1, TIMEOUT_S, keep=True)
        assert conserved(again, requests) == REQUESTS
    finally:
        server.stop()
