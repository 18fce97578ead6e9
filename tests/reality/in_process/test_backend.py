"""eval/real.py --backend transformers: its refusals, and a run of the tiny model from the command to the files."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched.eval import real
from llmsched.eval.reality.in_process.backend import check_positions
from llmsched_env.requests import Requests
from tests.faults.tools import run

ABSENT = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
needs_torch = pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}: make test-transformers")


def command(*words: Any) -> Any:
    """What the command says."""
    return run("--backend", "transformers", "--seeds", "2", *words, main=real.main)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Twelve small requests within 0.2 s."""
    file = tmp_path / "small.csv"
    lines = [f"{0.02 * place},{5 + 3 * place},{2 + place}" for place in range(12)]
    file.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]) + "\n")
    return file


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policies", "naiv"], "Did you mean naive?"),
        (["--policies", "sjf"], "'sjf' is no scheduler of --backend transformers"),
        (["--policies", "naive:batch=0"], "naive: batch=0 is not allowed"),
        (["--policies", "naive,"], "'' is no scheduler"),
        (["--endpoint", "http://127.0.0.1:9/v1"], "--endpoint does not go with --backend transformers"),
        (["--device", "gpu"], "'gpu' is not known: give cpu, cuda or cuda:N"),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    """One line each, before anything is loaded."""
    command(*words).refused(said)


@pytest.mark.skipif(not ABSENT, reason="torch and transformers are installed")
def test_what_to_install() -> None:
    """Where it is missing."""
    command().refused("is not installed: pip install torch transformers")


@needs_torch
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda:97"], "--device cuda:97: torch"),
        (["--model", "./nowhere"], "--model './nowhere': there is no such folder"),
        (["--model", "no/such/folder"], "there is no such folder"),
        (["--model", "nowhere/"], "there is no such folder"),
        (["--model", "gpt2-rand"], "Did you mean gpt2-random?"),
        (["--policies", "naive,naive"], "differ from each other"),
    ],
)
def test_refusals_of_the_model(words: list[str], said: str, trace: Path) -> None:
    """One line each."""
    command("--workload", trace, *words).refused(said)


@needs_torch
def test_a_request_beyond_the_positions_from_the_command(tmp_path: Path) -> None:
    """One line, before anything is served."""
    file = tmp_path / "long.csv"
    file.write_text("arrival_s,prompt_tokens,output_tokens\n0,1000,20\n1,1020,20\n2,9,9\n")
    found = command("--workload", file, "--model", "gpt2-random", "--out", tmp_path / "out")
    found.refused("--model gpt2-random has 1,024 positions, and a request of 1,020 + 20 tokens")
    assert not (tmp_path / "out" / "real.jsonl").exists()


@needs_torch
def test_an_empty_folder_is_no_model(tmp_path: Path, trace: Path) -> None:
    """One line."""
    command("--workload", trace, "--model", tmp_path).refused("no configuration found")


def test_a_request_beyond_the_positions() -> None:
    """Its prompt, its answer and the positions are named."""
    requests = Requests.checked(np.zeros(2), np.array([10, 1000]), np.array([10, 25]))
    check_positions("gpt2-random", 1025, [requests])
    with pytest.raises(ValueError, match=r"has 1,024 positions, and a request of 1,000 \+ 25 tokens") as refused:
        check_positions("gpt2-random", 1024, [requests, requests])
    assert "\n" not in str(refused.value)


@needs_torch
def test_a_run_from_the_command_to_the_files(tmp_path: Path, trace: Path) -> None:
    """Every scheduler in turn, every request answered once with all its tokens; a restart makes nothing again."""
    out = tmp_path / "out"
    words = ["--workload", trace, "--out", out, "--policies", "naive:batch=4,dynamic,window:every=50,iterative,packing"]
    first = command(*words)
    assert first.code == 0 and "failed, and" not in first.out, first.err
    kept = [json.loads(line) for line in (out / "real.jsonl").read_text().splitlines()]
    assert [row["repeat"] for row in kept] == [0] * 5 + [1] * 5
    assert [row["policy"].partition(":")[0] for row in kept[:5]] == [
        "naive",
        "dynamic",
        "window",
        "iterative",
        "packing",
    ]
    for row in kept:
        assert sorted(request[4] for request in row["rows"]) == [2 + place for place in range(12)]
        for due, sent, begun, end, tokens, gaps, error in row["rows"]:
            assert due == sent < begun <= end and len(gaps) == tokens - 1 and error == ""
    content = (out / "real.jsonl").read_bytes()
    again = command(*words)
    assert again.out == first.out and (out / "real.jsonl").read_bytes() == content
    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 10
    assert command(*words, "--dtype", "bfloat16").code == 0  # another model is another run
    assert len((out / "real.jsonl").read_text().splitlines()) == 20


@needs_torch
def test_weights_by_path(tmp_path: Path, trace: Path) -> None:
    """A folder that Transformers wrote is served with its own weights."""
    from argparse import Namespace

    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from llmsched.eval.reality.in_process.torch_model import Loaded

    torch.manual_seed(5)
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    made = GPT2LMHeadModel(config).eval()
    made.save_pretrained(tmp_path / "mine")
    options = Namespace(model=str(tmp_path / "mine"), device="cpu", dtype="float32", threads=1, random_weights=False)
    loaded = Loaded(Namespace(**vars(options), kv_tokens=None))
    assert loaded.facts["weights"] == "real" and loaded.model.positions == 64
    prompt = np.arange(20, 30)
    first = loaded.model.start({7: prompt}, 20)[7]
    with torch.inference_mode():
        assert first == int(made(torch.from_numpy(prompt)[None]).logits[0, -1].argmax())
    assert command("--workload", trace, "--seeds", "1", "--model", tmp_path / "mine", "--policies", "naive").code == 0
