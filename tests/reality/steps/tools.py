"""Logs of steps of servers that do not exist: known laws, with noise and pauses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmsched.eval.calibration.cells import Work
from llmsched.eval.calibration.fit import predict

SERVER: dict[str, Any] = {
    "engine": "vllm 0.32.0",
    "model": "tiny",
    "device": "a table",
    "tensor_parallel": 1,
    "policy": "sjf",
    "max_seqs": 16,
    "token_budget": 256,
    "kv_tokens": 32768,
    "scheduling": "sync",
    "prefix_cache": "off",
    "watermark": 0.0,
    "origin_s": 1000.0,
}
AFFINE = {"d0": 6.0, "d1": 0.3, "d2": 2e-3, "p0": 9.0, "p1": 0.08, "p2": 5e-5}


def lines_of(
    rng: np.random.Generator, law: Mapping[str, float], form: str, count: int, sigma: float = 0.0
) -> list[dict[str, Any]]:
    """``count`` steps of every kind: decoding alone, chunks alone, both."""
    found, now = [], 0.0
    for place in range(count):
        decodes = 0 if place % 7 == 0 else int(rng.integers(1, 17))
        kv = decodes * int(rng.integers(20, 400))
        some = place % 7 == 0 or rng.random() < 0.4
        chunks = (
            [(int(d), int(rng.integers(8, 200))) for d in rng.choice([0, 0, 64], int(rng.integers(1, 3)))]
            if some
            else []
        )
        squares = sum((d + c) ** 2 - d**2 for d, c in chunks)
        work = Work(decodes, kv, sum(c for _, c in chunks), squares)
        ms = predict(form, dict(law), work) * float(np.exp(sigma * rng.standard_normal()))
        now += ms / 1e3
        line = {"end_s": now, "ms": ms, "decodes": decodes, "kv": kv, "chunks": chunks}
        found.append(line | {"running": decodes + len(chunks), "waiting": 0})
    return found


def write_log(path: Path, lines: list[dict[str, Any]], server: Mapping[str, Any] | None = SERVER) -> Path:
    """A file of the lines, below that of the server."""
    head = [] if server is None else [{"server": dict(server)}]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*head, *lines]), encoding="utf-8")
    return path
