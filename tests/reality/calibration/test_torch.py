"""Calibration with torch: the tiny model on this machine's CPU."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from llmsched.eval.calibration import command
from llmsched_env.profiles import load_profile

ROOT = Path(__file__).parents[3]
SMALL = ["--batches", "1,3", "--prompts", "8,32", "--contexts", "8,32", "--repeats", "3", "--max-cv", "9"]
SMALL += ["--patience", "0"]  # tests run beside each other


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("transformers", reason="transformers is not installed")
    found = pytest.importorskip("torch", reason="torch is not installed")
    found.set_num_threads(1)  # tests run beside each other
    return found


def tiny(torch, seed=0):
    from transformers import AutoModelForCausalLM

    from llmsched.eval.calibration.device.models import config_of

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config_of("tiny")).eval()


@pytest.mark.parametrize("by_row", [True, False], ids=["as on a CPU", "as on CUDA"])
@pytest.mark.parametrize("prompts", [[7, 30, 19, 30], [9, 9]], ids=["mixed", "equal"])
def test_the_engine_gives_the_tokens_of_the_model(torch, prompts, by_row):
    """Packed prefill, right-aligned cache and masks change nothing: greedy tokens equal plain Transformers'."""
    from llmsched.eval.calibration.device.engine import ModelEngine

    tokens = 10
    engine, plain = ModelEngine(tiny(torch), by_row), tiny(torch)
    ids = engine.prompt_ids(prompts)
    found, begin = engine.generate(prompts, tokens, ids), 0
    for row, length in enumerate(prompts):
        text = torch.cat([ids[0, begin : begin + length], found[row]])[None, :-1]
        begin += length
        with torch.inference_mode():  # what a full pass over prompt and answer would have said at every place
            following = plain(text).logits[0, length - 1 :].argmax(-1)
        assert following.tolist() == found[row].tolist()


FAULTS = """
import resource
import sys

sys.path.insert(0, {root!r})
import torch

from llmsched.eval.calibration.device.hardware import keep_freed_memory

torch.set_num_threads(1)
kept = keep_freed_memory() if {keep} else True
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in range(30):
    if size == 10:  # the heap has grown by then
        began = faults()
    torch.zeros((8 << 20) + (size << 18), dtype=torch.uint8)
print(int(kept), faults() - began)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
def test_freed_memory_is_kept(torch):
    """Tensors that grow from step to step do not come from the system page by page."""
    seen = []
    for keep in (False, True):
        command = [sys.executable, "-c", FAULTS.format(root=str(ROOT), keep=keep)]
        kept, faults = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        seen.append(faults)
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert seen[1] < seen[0] / 5


def test_calibrating_the_tiny_model(torch, tmp_path, capsys):
    out = tmp_path / "here.json"
    assert command.main(["--model", "tiny", "--out", str(out), *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "floor: weights and KV cache read once at" in printed and "decode 3 x 32" in printed
    profile = load_profile(out)
    assert profile.meta["model"] == "tiny" and profile.meta["kv_bytes_per_token"] == 2 * 4 * 2 * 64 * 4
    assert 0.05 < profile.decode_step_ms(1, 8) < 1000
    with (tmp_path / "here.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 3 and {row["status"] for row in rows} == {"ok"}
    content = (tmp_path / "here.csv").read_bytes()
    assert command.main(["--model", "tiny", "--out", str(out), *SMALL]) == 0
    assert "continuing from 24 rows" in capsys.readouterr().out
    assert (tmp_path / "here.csv").read_bytes() == content  # nothing was measured again


def test_rows_of_another_dtype_are_refused_by_the_command(torch, tmp_path, capsys):
    options = ["--out", str(tmp_path / "here.json"), *SMALL]
    assert command.main(options) == 0
    with pytest.raises(SystemExit) as stopped:
        command.main([*options, "--dtype", "bfloat16"])
    assert stopped.value.code == 2
    assert "dtype='float32', but this run measures 'bfloat16'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda:97"], "--device cuda:97: torch"),
        (["--model", "qwen3-1.7"], "--model 'qwen3-1.7' is not known. Did you mean qwen3-1.7b?"),
    ],
)
def test_what_is_not_there_is_refused(torch, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        command.main([*options, "--out", str(tmp_path / "x.json")])
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_or_a_cell_that_does_not_fit_the_memory(torch, tmp_path, capsys, monkeypatch):
    from llmsched.eval.calibration.device import measurer, models

    monkeypatch.setattr(models, "memory", lambda _: (10**6, 10**9))
    with pytest.raises(SystemExit):
        command.main(["--out", str(tmp_path / "x.json")])
    assert "--model tiny: its weights take 0.1 GB in float32, but cpu has 0.0 GB free" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(measurer, "memory", lambda _: (1000, 10**9))
    with pytest.raises(SystemExit) as stopped:
        command.main(["--out", str(tmp_path / "x.json"), *SMALL])
    assert stopped.value.code == 2
    assert "not enough memory for a single prefill cell: the smallest was prefill 1 x 8" in capsys.readouterr().err
