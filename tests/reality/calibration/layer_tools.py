"""Layer tables with known laws, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

TOKENS = (1, 8, 64, 256, 512, 1024, 2048)
MEMBERS = (1, 4, 16, 64, 256)
CONTEXTS = (16, 256, 1024, 4096)
CHUNKS = (16, 128, 512, 2048)
EXPERTS = (8, 16, 32, 64, 128)

DENSE_US, DENSE_TOKEN_US = 5.0, 0.1
SEQUENCE_US = 3.0
MEMBER_TOKEN_US, SQUARE_US, KERNEL_US = 0.002, 4e-5, 8.0
EXPERT_US = 6.0


def frames(*, experts: bool = False) -> dict[str, pd.DataFrame]:
    """Times in us: dense 5 + 0.1 t each, output layer 3 a sequence, attention 8 + 0.002 a token or 4e-5 a square."""
    parts = ("embedding", "layernorm", "qkv_proj", "o_proj", *(() if experts else ("gate_up_proj", "down_proj")))
    decode = [(0, 0, n, x, KERNEL_US + MEMBER_TOKEN_US * n * x) for n in MEMBERS for x in CONTEXTS]
    prompt = [(c, k, 0, 0, KERNEL_US + SQUARE_US * ((c + k) ** 2 - k * k)) for c in CHUNKS for k in (0, *CONTEXTS)]
    found = {
        "attention.csv": table(("prefill_chunk", "kv_prefill", "n_decode", "kv_decode"), decode + prompt),
        "dense.csv": table(("layer", "tokens"), [(p, t, DENSE_US + DENSE_TOKEN_US * t) for p in parts for t in TOKENS]),
        "per_sequence.csv": table(("layer", "sequences"), [("lm_head", n, SEQUENCE_US * n) for n in MEMBERS]),
    }
    if experts:
        rows = [(t, e, EXPERT_US * e) for t in TOKENS for e in EXPERTS if e <= 8 * t]
        found["moe.csv"] = table(("tokens", "activated_experts"), rows)
    return found


def table(keys: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A frame of rows whose last value is the time."""
    return pd.DataFrame(rows, columns=[*keys, "time_us"])


def write_layers(folder: Path, tables: Mapping[str, pd.DataFrame], model: str = "meta-llama/Llama-3.1-8B") -> Path:
    """The tables as a folder."""
    folder.mkdir(exist_ok=True)
    for name, frame in tables.items():
        frame.to_csv(folder / name, index=False)
    about = {"model": model, "gpu": "test", "vllm_version": "0.19.0"}
    (folder / "meta.yaml").write_text(yaml.safe_dump(about))
    return folder
