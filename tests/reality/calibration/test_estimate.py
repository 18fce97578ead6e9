"""Profiles where nothing was measured: rooflines by hand, marked as estimates, checked against the atlas."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from llmsched.eval.calibration import estimate as command
from llmsched.eval.calibration.model_shape import KNOWN
from llmsched.eval.calibration.roofline import GPUS, Shares, estimate
from llmsched.eval.estimate import main
from llmsched_env import atlas
from llmsched_env.profiles import load_profile

LLAMA, QWEN = KNOWN["Llama-3.1-8B"], KNOWN["Qwen3-30B-A3B"]
IDEAL = Shares(1.0, 1.0, 0.0, 0.0)


def test_a_dense_model_at_the_peaks_by_hand():
    """A decode step reads all weights but the embedding, and the cache; a token costs two operations a weight."""
    made = estimate(LLAMA, GPUS["h100"], 1, "bf16", IDEAL)
    read = LLAMA.layers * (LLAMA.attention_weights + LLAMA.expert_weights) + LLAMA.vocabulary * LLAMA.hidden
    assert made.coefficients["d0"] == pytest.approx(1e3 * 2 * read / 3.35e12)
    assert made.coefficients["d2"] == pytest.approx(1e3 * 2 * 2 * 32 * 8 * 128 / 3.35e12)
    assert made.coefficients["d1"] == pytest.approx(1e3 * 2 * read / 989e12)
    assert read == pytest.approx(7.5e9, rel=0.01)


def test_experts_are_read_as_they_are_touched():
    made = estimate(QWEN, GPUS["h100"], 1, "bf16", IDEAL)
    weights = 48 * 128 * 3 * 2048 * 768
    assert made.form == "experts" and made.coefficients["e1"] == 8 / 128
    assert made.coefficients["e0"] == pytest.approx(1e3 * 2 * weights / 3.35e12)


def test_more_gpus_read_faster_and_hold_more_but_exchange():
    one, two = (estimate(LLAMA, GPUS["h100"], n, "bf16") for n in (1, 2))
    alone = estimate(LLAMA, GPUS["h100"], 2, "bf16", replace(Shares(), exchange_us=0.0))
    assert alone.coefficients["d0"] < two.coefficients["d0"] < one.coefficients["d0"]
    assert two.kv_tokens > 2 * one.kv_tokens and two.tensor_parallel == 2


def test_the_command_marks_its_profile_and_states_its_error(tmp_path, monkeypatch, capsys):
    few = {name: entry for name, entry in atlas.entries().items() if name.startswith("h200/llama-3.1-8b/")}
    monkeypatch.setattr(command.atlas, "entries", lambda: few)
    out = tmp_path / "p.json"
    arguments = ["--model", "Qwen/Qwen3-32B", "--gpu", "h200", "--precision", "fp8", "--write", str(out)]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"]["estimated"] and not found["profile"]["measured"]
    assert found["errors"]["h200"]["configurations"] == len(few) > 0
    assert 0.0 < found["errors"]["h200"]["tpot_median"] < 1.0
    profile = load_profile(out)
    assert "ESTIMATED" in profile.meta["caveats"][0] and profile.name == "estimated/h200/qwen3-32b/fp8-tp1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "a/b", "--gpu", "h100"], "model 'a/b' is not known"),
        (["--model", "Llama-3.1-8B", "--gpu", "h10"], "GPU 'h10' is not known. Did you mean h100?"),
        (["--model", "Llama-3.1-70B", "--gpu", "h100"], "does not fit into 1 x 79.2 GiB: give more GPUs"),
        (
            ["--model", "Llama-3.1-8B", "--gpu", "a100", "--precision", "fp8"],
            "a100 has no fp8 arithmetic: give one of bf16",
        ),
        (["--gpu", "h100"], "one of the arguments --model --config is required"),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1


def test_a_gpu_of_ones_own_needs_all_peaks(monkeypatch, capsys):
    monkeypatch.setattr(command, "check_against_atlas", list)
    peaks = ["--bandwidth-tb-s", "1", "--tflops", "200", "--memory-gib", "48", "--link-gb-s", "32"]
    assert main(["--model", "Llama-3.1-8B", "--gpu", "mine", *peaks]) == 0
    assert "estimated/mine/llama-3.1-8b/bf16-tp1" in capsys.readouterr().out
